import { Failure } from "./errors";
import type { WriteEvent } from "./bindings";

/** How long a stopped or ended stream may still owe its last message. */
export const GRACE_MS = 8000;

/**
 * What both transports do around a write stream: pass events on, ask for a stop once the generation's id is known, and
 * know whether the vote (`chosen`) has arrived.
 */
export class WriteStream {
	chosen = false;
	private generation: string | null = null;
	private stopAsked = false;
	private settle: () => void = () => undefined;
	private readonly arrived = new Promise<void>((resolve) => (this.settle = resolve));

	constructor(
		private readonly onEvent: (event: WriteEvent) => void,
		private readonly cancel: (generation: string) => Promise<unknown>,
		private readonly signal?: AbortSignal,
	) {
		signal?.addEventListener("abort", () => this.stop(), { once: true });
	}

	take(event: WriteEvent): void {
		if (this.chosen) return;
		if (event.event === "started") {
			this.generation = event.generation_id;
			if (this.signal?.aborted) this.stop();
		}
		if (event.event === "chosen") {
			this.chosen = true;
			this.settle();
		}
		this.onEvent(event);
	}

	/** Waits for the vote; a stream that ended without one is an error, or nothing at all when it was stopped. */
	async finish(): Promise<void> {
		if (!this.chosen) await Promise.race([this.arrived, new Promise((resolve) => setTimeout(resolve, GRACE_MS))]);
		if (this.chosen) return;
		if (this.signal?.aborted) throw new Failure({ code: "cancelled", message: "Writing was stopped before there was any text." });
		throw new Failure({ code: "internal", message: "Writing ended early.", hint: "Your prompt is still here. Press Write to try again." });
	}

	private stop(): void {
		if (this.stopAsked || this.generation === null) return;
		this.stopAsked = true;
		// A generation that has just ended cannot be stopped, and need not be.
		this.cancel(this.generation).catch(() => undefined);
	}
}
