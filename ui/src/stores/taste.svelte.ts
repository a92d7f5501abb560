import { call } from "../api/client";
import type { TasteCard } from "../api/bindings";
import { debounced, on, onRenewal } from "./events";
import { messages } from "./messages.svelte";

class TasteStore {
	card = $state.raw<TasteCard | null>(null);

	private wanted = false;
	private readonly reload = debounced(() => this.wanted && void this.load(), 300);

	constructor() {
		on("taste_trained", this.reload);
		on("feedback_stored", this.reload);
		onRenewal(this.reload);
	}

	async load(): Promise<void> {
		this.wanted = true;
		try {
			this.card = await call("taste");
		} catch (thrown) {
			messages.report(thrown);
		}
	}
}

export const taste = new TasteStore();
