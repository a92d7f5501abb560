import { call } from "../api/client";
import type { AutoTrain, AutoTrainAttempt, AutoTrainRequest, AutoTrainResult, Example, JobState, TrainingStats } from "../api/bindings";
import { t } from "../strings/index.svelte";
import { debounced, on, onRenewal } from "./events";
import { messages } from "./messages.svelte";
import { route } from "./route.svelte";

/** The person of this app, whose personal adapter learns from the examples. */
const ME = "me";

const UNDER_WAY: JobState[] = ["queued", "running", "paused", "interrupted"];

/** Sessions of auto-train, and what one of them made: loaded once, then kept true by events. */
class AutoTrainStore {
	sessions = $state.raw<AutoTrain[]>([]);
	stats = $state.raw<TrainingStats | null>(null);
	loaded = $state(false);
	/** Of the session that is shown, in order of position. */
	attempts = $state.raw<AutoTrainAttempt[]>([]);
	examples = $state.raw<ReadonlyMap<string, Example>>(new Map());
	result = $state.raw<AutoTrainResult | null>(null);
	private shown: string | null = null;

	private readonly count = debounced(() => void this.loadStats(), 150);
	private readonly sum = debounced(() => void this.loadResult(), 150);

	constructor() {
		on("auto_train_changed", ({ auto_train }) => this.take(auto_train));
		on("example_changed", ({ example }) => {
			if (example.auto_train_id === this.shown) this.examples = new Map(this.examples).set(example.id, example);
			this.count();
		});
		on("examples_ready", ({ new_examples, automatic }) => {
			this.count();
			if (automatic) messages.say(t("auto.readyAutomatic", { count: new_examples }));
			else messages.say(t("auto.readySaid", { count: new_examples }), { label: t("auto.trainNow"), run: () => void this.train() });
		});
		on("adapter_changed", this.count);
		on("run_changed", this.count);
		onRenewal(() => void this.load());
	}

	/** What is on its way, else the newest. */
	get current(): AutoTrain | null {
		return this.sessions.find(({ state }) => UNDER_WAY.includes(state)) ?? this.sessions[0] ?? null;
	}

	async load(): Promise<void> {
		try {
			this.sessions = await call("auto_trains", { limit: 50 });
			this.loaded = true;
			await Promise.all([this.show(), this.loadStats()]);
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	/** Throws what the backend refuses, for the form to show at its fields. */
	async start(request: AutoTrainRequest): Promise<void> {
		this.take(await call("auto_train", request));
	}

	async train(): Promise<void> {
		try {
			await call("train_personal", { user_id: ME });
			messages.say(t("teach.started"));
			route.go("teach");
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	drop = (example_id: string) => this.change(() => call("drop_example", { example_id }));
	restore = (example_id: string) => this.change(() => call("restore_example", { example_id }));
	edit = (example_id: string, text: string) => this.change(() => call("edit_example", { example_id, text }));

	private async change(action: () => Promise<Example>): Promise<boolean> {
		try {
			const example = await action();
			this.examples = new Map(this.examples).set(example.id, example);
			this.count();
			return true;
		} catch (thrown) {
			messages.report(thrown);
			return false;
		}
	}

	private take(session: AutoTrain): void {
		const index = this.sessions.findIndex(({ id }) => id === session.id);
		this.sessions = index < 0 ? [session, ...this.sessions] : this.sessions.with(index, session);
		const current = this.current;
		if (current?.id !== this.shown) return void this.show();
		const latest = session.latest;
		if (session.id !== this.shown || !latest) return;
		// One that is missing between was lost on the way: look again.
		if (this.attempts.length < session.current - 1) void this.show();
		else if (!this.attempts.some(({ position }) => position === latest.position)) this.attempts = [...this.attempts, latest];
		this.sum();
	}

	private async show(): Promise<void> {
		const id = this.current?.id ?? null;
		if (id !== this.shown) {
			this.shown = id;
			this.attempts = [];
			this.examples = new Map();
			this.result = null;
		}
		if (id === null) return;
		try {
			const [attempts, examples] = await Promise.all([call("auto_train_attempts", { auto_train_id: id }), call("examples", { auto_train_id: id, limit: 1000 })]);
			if (id !== this.shown) return;
			this.attempts = attempts;
			this.examples = new Map(examples.map((example) => [example.id, example]));
			await this.loadResult();
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	private async loadResult(): Promise<void> {
		const id = this.shown;
		if (id === null) return;
		try {
			const result = await call("auto_train_result", { auto_train_id: id });
			if (id === this.shown) this.result = result;
		} catch (thrown) {
			messages.report(thrown);
		}
	}

	private async loadStats(): Promise<void> {
		if (!this.loaded) return;
		try {
			this.stats = await call("training_stats", { user_id: ME });
		} catch (thrown) {
			messages.report(thrown);
		}
	}
}

export const autoTrain = new AutoTrainStore();
