import { call } from "../api/client";
import type { Adapter, Base, CatalogueEntry, PullProgress } from "../api/bindings";
import { debounced, on, onRenewal } from "./events";
import { messages } from "./messages.svelte";

/** Bases, those that could be, and adapters. */
class LibraryStore {
	bases = $state.raw<Base[]>([]);
	adapters = $state.raw<Adapter[]>([]);
	catalogue = $state.raw<CatalogueEntry[]>([]);
	/** How far each download is, by its job; only while it moves. */
	progress = $state.raw<Record<string, PullProgress>>({});
	loaded = $state(false);

	private readonly reload = debounced(() => void this.load(), 150);

	constructor() {
		on("adapter_changed", ({ adapter }) => {
			this.replace(adapter);
			// Activating one sets others aside.
			this.reload();
		});
		on("adapter_removed", ({ adapter_id }) => (this.adapters = this.adapters.filter(({ id }) => id !== adapter_id)));
		for (const kind of ["base_changed", "base_removed", "settings_changed"] as const) on(kind, this.reload);
		on("pull_progress", ({ progress }) => (this.progress = { ...this.progress, [progress.job_id]: progress }));
		on("job_changed", ({ job }) => {
			if (job.kind !== "pull") return;
			if (job.state !== "running") this.progress = Object.fromEntries(Object.entries(this.progress).filter(([id]) => id !== job.id));
			this.reload();
		});
		onRenewal(this.reload);
	}

	get active(): Adapter[] {
		return this.adapters.filter(({ state }) => state === "active");
	}

	/** The base that texts are written with unless another one is chosen. */
	get defaultBase(): Base | null {
		return this.bases.find(({ is_default }) => is_default) ?? this.bases[0] ?? null;
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
			const [bases, adapters, catalogue] = await Promise.all([call("bases"), call("adapters"), call("catalogue")]);
			this.bases = bases;
			this.catalogue = catalogue;
			this.adapters = [...adapters].sort((a, b) => b.created_at.localeCompare(a.created_at));
			this.loaded = true;
		} catch (thrown) {
			messages.report(thrown);
		}
	}
}

export const library = new LibraryStore();
