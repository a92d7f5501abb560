import { call } from "../../api/client";
import type { GenerationQuery, GenerationSummary } from "../../api/bindings";
import { debounced, on, onRenewal } from "../../stores/events";
import { messages } from "../../stores/messages.svelte";
import { t } from "../../strings/index.svelte";
import { session } from "./session.svelte";

const PAGE = 40;

/** Past generations, newest first, with search. */
class History {
	items = $state.raw<GenerationSummary[]>([]);
	next = $state<string | null>(null);
	search = $state("");
	loaded = $state(false);

	private wanted = false;
	private readonly reload = debounced(() => this.wanted && void this.load(), 250);

	constructor() {
		for (const kind of ["generation_stored", "generation_restored", "feedback_stored"] as const) on(kind, this.reload);
		on("generation_removed", ({ generation_id }) => (this.items = this.items.filter((item) => item.generation_id !== generation_id)));
		onRenewal(this.reload);
	}

	/** Searches once typing pauses. */
	readonly searchSoon = this.reload;

	async load(): Promise<void> {
		this.wanted = true;
		try {
			const search = this.search;
			const page = await call("generations", this.query());
			// An answer to older words than those in the field is dropped.
			if (search !== this.search) return;
			this.items = page.items;
			this.next = page.next;
			this.loaded = true;
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	async older(): Promise<void> {
		if (!this.next) return;
		try {
			const page = await call("generations", { ...this.query(), before: this.next });
			this.items = [...this.items, ...page.items];
			this.next = page.next;
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	async remove(generation_id: string): Promise<void> {
		try {
			await call("remove_generation", { generation_id });
			this.items = this.items.filter((item) => item.generation_id !== generation_id);
			session.forget(generation_id);
			messages.say(t("write.deleted"), { label: t("write.undo"), run: () => void this.restore(generation_id) });
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	private async restore(generation_id: string): Promise<void> {
		try {
			await call("restore_generation", { generation_id });
			await this.load();
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	private query(): GenerationQuery {
		const search = this.search.trim();
		return search ? { limit: PAGE, search } : { limit: PAGE };
	}
}

export const history = new History();
