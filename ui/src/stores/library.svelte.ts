import { call } from "../api/client";
import type { Adapter, Base } from "../api/bindings";
import { debounced, on, onRenewal } from "./events";
import { messages } from "./messages.svelte";

/** Bases and adapters. */
class LibraryStore {
	bases = $state.raw<Base[]>([]);
	adapters = $state.raw<Adapter[]>([]);
	loaded = $state(false);

	private readonly reload = debounced(() => void this.load(), 150);

	constructor() {
		on("adapter_changed", ({ adapter }) => {
			this.replace(adapter);
			// Activating one sets others aside.
			this.reload();
		});
		on("adapter_removed", ({ adapter_id }) => (this.adapters = this.adapters.filter(({ id }) => id !== adapter_id)));
		onRenewal(this.reload);
	}

	get active(): Adapter[] {
		return this.adapters.filter(({ state }) => state === "active");
	}

	adapter(id: string | null): Adapter | null {
		return this.adapters.find((adapter) => adapter.id === id) ?? null;
	}

	replace(adapter: Adapter): void {
		const index = this.adapters.findIndex(({ id }) => id === adapter.id);
		this.adapters = index < 0 ? [adapter, ...this.adapters] : this.adapters.with(index, adapter);
	}

	async load(): Promise<void> {
		try {
			const [bases, adapters] = await Promise.all([call("bases"), call("adapters")]);
			this.bases = bases;
			this.adapters = [...adapters].sort((a, b) => b.created_at.localeCompare(a.created_at));
			this.loaded = true;
		} catch (thrown) {
			messages.report(thrown);
		}
	}
}

export const library = new LibraryStore();
