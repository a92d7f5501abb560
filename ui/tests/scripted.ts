import type { Calls, Change, Event, WriteEvent, WriteRequest } from "../src/api/bindings";
import { useTransport } from "../src/api/client";
import { Failure } from "../src/api/errors";
import type { CallName, LinkState, Transport } from "../src/api/transport";
import * as sample from "./fixtures";

type Answers = { [N in CallName]?: (input: Calls[N]["input"]) => Calls[N]["output"] | Promise<Calls[N]["output"]> };

/** A transport that answers as told, remembers what it was asked, and lets a test send what the backend would. */
export class ScriptedTransport implements Transport {
	readonly kind = "browser";
	readonly asked: { name: CallName; input: unknown }[] = [];
	readonly requests: WriteRequest[] = [];
	readonly saved: { fileName: string; text: string }[] = [];
	signal: AbortSignal | undefined;
	private writing: { send: (event: WriteEvent) => void; end: () => void; fail: (thrown: unknown) => void } | null = null;
	private listener: (event: Event) => void = () => undefined;
	private onState: (state: LinkState) => void = () => undefined;

	constructor(readonly answers: Answers = {}) {
		this.answers = { ...standard(), ...answers };
		useTransport(this);
	}

	async call<N extends CallName>(name: N, input: Calls[N]["input"]): Promise<Calls[N]["output"]> {
		this.asked.push({ name, input });
		const answer = this.answers[name];
		if (!answer) throw new Failure({ code: "not_found", message: `nobody answers ${name}` });
		return answer(input);
	}

	write(request: WriteRequest, onEvent: (event: WriteEvent) => void, signal?: AbortSignal): Promise<void> {
		this.requests.push(structuredClone(request));
		this.signal = signal;
		return new Promise((resolve, reject) => (this.writing = { send: onEvent, end: resolve, fail: reject }));
	}

	subscribe(onEvent: (event: Event) => void, onState: (state: LinkState) => void): () => void {
		this.listener = onEvent;
		this.onState = onState;
		return () => (this.listener = () => undefined);
	}

	async saveText(fileName: string, text: string): Promise<string | null> {
		this.saved.push({ fileName, text });
		return "";
	}

	saveBytes = async () => "";

	/** What the backend streams; `chosen` ends the stream. */
	stream(...events: WriteEvent[]): void {
		for (const event of events) {
			this.writing?.send(event);
			if (event.event === "chosen") this.writing?.end();
		}
	}

	refuse(failure: Failure): void {
		this.writing?.fail(failure);
	}

	announce(change: Change): void {
		this.listener({ seq: 1, at: sample.AT, ...change });
	}

	link(state: LinkState): void {
		this.onState(state);
	}

	inputs(name: CallName): unknown[] {
		return this.asked.filter((call) => call.name === name).map(({ input }) => input);
	}
}

function standard(): Answers {
	return {
		status: () => sample.status,
		settings_view: () => ({ settings: sample.settings, descriptions: sample.descriptions, data_dir: sample.status.data_dir }),
		jobs: () => [],
		runs: () => [],
		auto_trains: () => [],
		auto_train_attempts: () => [],
		auto_train_result: () => sample.makeAutoResult(sample.makeSession(0)),
		examples: () => [],
		training_stats: () => sample.makeStats(),
		run_metrics: ({ run_id }) => ({ run_id, metrics: [] }),
		bases: () => [sample.base],
		catalogue: () => sample.catalogue,
		member: () => ({ host: null, model: "", key_set: false, inside: false }),
		adapters: () => [],
		draft: () => ({ json: "" }),
		save_draft: () => ({ ok: true }),
		taste: () => sample.tasteCard,
		plan_training: () => sample.plan,
		generations: () => ({ items: [], next: null }),
		feedback: () => ({ feedback_id: "fb_1", taste: { trained: true, thumbs: 12, auc: 0.8, confident: true } }),
		doctor: () => sample.doctor,
		check_settings: () => sample.settings,
		update_settings: (update) => ({ ...sample.settings, ...update }),
	};
}
