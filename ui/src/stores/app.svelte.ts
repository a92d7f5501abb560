import { call } from "../api/client";
import type { Status, TasteSummary } from "../api/bindings";
import { toFailure, type Failure } from "../api/errors";
import type { LinkState } from "../api/transport";
import { debounced, on, onRenewal } from "./events";

/** What every view may need: the status, and whether the backend answers. */
class AppStore {
	status = $state.raw<Status | null>(null);
	failure = $state.raw<Failure | null>(null);
	link = $state<LinkState>("connecting");
	taste = $state.raw<TasteSummary | null>(null);

	private readonly reload = debounced(() => void this.load(), 250);

	constructor() {
		on("taste_trained", ({ summary }) => (this.taste = summary));
		for (const kind of ["adapter_changed", "adapter_removed", "job_changed"] as const) on(kind, this.reload);
		onRenewal(this.reload);
	}

	async load(): Promise<void> {
		try {
			this.status = await call("status");
			this.taste = this.status.taste;
			this.failure = null;
		} catch (thrown) {
			// A later reload that fails leaves what is known on screen.
			if (!this.status) this.failure = toFailure(thrown);
		}
	}
}

export const app = new AppStore();
