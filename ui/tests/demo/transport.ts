import type { Adapter, AutoTrain, AutoTrainRequest, Calls, Example, Change, Event, GenerationDetail, Job, Metric, Run, Settings, WriteEvent, WriteRequest } from "../../src/api/bindings";
import { Failure } from "../../src/api/errors";
import type { CallName, LinkState, Transport } from "../../src/api/transport";
import * as sample from "../fixtures";

const STORIES = [
	`"Don't touch it," said the librarian. Ines had already touched it.\n\nThe book was warm, like bread. Its pages were blank except for one line, and the line was her name. She read it aloud before she could stop herself, and every lamp in the reading room leaned toward her as if to listen.\n\n"Now it knows you," the librarian said, and sat down slowly. "The last one it knew was me. I was nine. I asked it for a quiet life." He looked around at forty years of shelves and almost smiled. "Choose better."`,
	`The spellbook lay under the floor of the old mill, wrapped in a wedding dress. Tomas found it because the floor was singing.\n\nIt was not a happy song. It was the song his mother hummed when she thought that nobody was home, and the book knew the words.`,
	`On the last page somebody had written: do not read this page first. Wren, who read every book from the back, felt accused.\n\nShe closed it. It opened again, a little wider, like a dog that wants to be scratched.`,
	`There was a wizard and there was a book. The book was old and the wizard was young. The wizard opened the book and the book was full of spells. The spells were old spells.`,
];

/** A backend in the page: enough of one to see every view move. Never part of a production build. */
export class DemoTransport implements Transport {
	readonly kind = "browser";
	private settings: Settings = { ...sample.settings };
	private draft = "";
	private generations: GenerationDetail[] = [];
	private removed = new Map<string, GenerationDetail>();
	private runs: Run[] = [];
	private jobs: Job[] = [];
	private adapters: Adapter[] = [];
	private metrics = new Map<string, Metric[]>();
	private thumbs = 0;
	private sessions: AutoTrain[] = [];
	private examples = new Map<string, Example>();
	private listener: (event: Event) => void = () => undefined;
	private stopped = false;
	private timer: ReturnType<typeof setInterval> | undefined;

	constructor(
		private readonly empty: boolean,
		private readonly fault: boolean,
	) {
		if (empty) return;
		this.thumbs = sample.tasteCard.summary.thumbs;
		this.runs = [
			sample.makeRun({ run_id: "run_4", job_id: "job_4", created_at: ago(26), decision: null }),
			sample.makeRun({ run_id: "run_3", job_id: "job_3", status: "interrupted", phase: "train", step: 88, checkpoint_step: 75, final_loss: null, adapter_id: null, verdict: null, seconds: null, created_at: ago(200) }),
			sample.makeRun({ run_id: "run_2", job_id: "job_2", status: "failed", phase: "train", step: 12, final_loss: null, adapter_id: null, verdict: null, seconds: 9, created_at: ago(1600), error: { code: "disk_full", message: "The disk is full: the checkpoint of step 12 could not be written. Your texts and thumbs are safe.", hint: "Free some space, then press Resume.", detail: [] } }),
			sample.makeRun({ run_id: "run_1", decision: "undo", adapter_id: "adp_0", final_loss: 2.58, samples: 9, created_at: ago(5000), verdict: { ...sample.verdict, win_rate: 0.51, low: 0.42, high: 0.6, promoted: false, reason: "Not better: its texts won 51 % of 60 comparisons, which could be chance." } }),
		];
		for (const { run_id, step } of this.runs) this.metrics.set(run_id, sample.makeMetrics(0, step).map((metric) => (run_id === "run_1" ? { ...metric, loss: metric.loss + 0.25 } : metric)));
		this.jobs = this.runs.map((run) => sample.makeJob({ id: run.job_id ?? "", run_id: run.run_id, state: run.status, progress: run.step / 200, error: run.error, created_at: run.created_at, finished_at: run.status === "interrupted" ? null : run.created_at }));
		this.adapters = [sample.makeAdapter({ run_id: "run_4", created_at: ago(23) }), sample.makeAdapter({ id: "adp_0", name: "Soft prompt of 17 November", state: "trial", run_id: "run_1", created_at: ago(5000) })];
		this.sessions = [sample.makeSession(50, { created_at: ago(60) })];
		for (let position = 0; position < 50; position++) {
			const attempt = sample.makeAttempt(position);
			if (attempt.example_id) this.examples.set(attempt.example_id, sample.makeExample(attempt));
		}
		this.generations = STORIES.map((text, index) => ({
			created_at: ago(40 + index * 700),
			request: { prompt: ["A young wizard discovers an ancient spellbook", "The mill at night", "A reader who starts at the end", "A wizard and a book"][index] ?? "", genres: { fantasy: 70, mystery: 30 } },
			result: { ...sample.makeResult([text]), generation_id: `gen_old${index}`, candidates: [sample.makeCandidate(0, { id: `old${index}`, text, feedback: index === 2 ? null : { id: "f", candidate_id: `old${index}`, verdict: index === 3 ? -1 : 1, tags: [], comment: null, edited_text: null, created_at: sample.AT } })] },
		}));
	}

	async call<N extends CallName>(name: N, input: Calls[N]["input"]): Promise<Calls[N]["output"]> {
		await sleep(30);
		return (this as unknown as Record<string, (input: unknown) => Calls[N]["output"]>)[`do_${name}`]?.(input) ?? fail("not_found", `The demo has no ${name}.`);
	}

	async write(request: WriteRequest, onEvent: (event: WriteEvent) => void, signal?: AbortSignal): Promise<void> {
		if (this.fault) fail("out_of_memory", "Only 1.2 GB of memory is free; this base needs 2.1 GB.", "Choose a smaller base or close other programs.");
		this.stopped = false;
		signal?.addEventListener("abort", () => (this.stopped = true));
		const n = Math.min(request.n ?? this.settings.candidates, 16);
		const before = request.continue_from ? (this.find(request.continue_from)?.text ?? "") : "";
		const texts = Array.from({ length: n }, (_, index) => (before ? `\n\n${STORIES[(index + 1) % 4] ?? ""}` : (STORIES[index % 4] ?? "")));
		const generation_id = `gen_${Date.now()}`;
		await sleep(150);
		onEvent({ event: "started", generation_id, n, seed: 7, notices: request.prompt.length > 300 ? [{ code: "prompt_cut", message: "Your prompt is longer than the base can read; its first 40 words were left out." }] : [] });
		const speed = new URLSearchParams(location.search).has("fast") ? 0 : 18;
		const pieces = texts.map((text) => text.match(/\s*\S+/g) ?? []);
		const written = texts.map(() => "");
		for (let at = 0; at < Math.max(...pieces.map(({ length }) => length)) && !this.stopped; at++) {
			pieces.forEach((words, index) => {
				const word = words[at];
				if (word === undefined) return;
				written[index] += word;
				onEvent({ event: "token", index, text: word });
			});
			if (speed || at % 20 === 0) await sleep(speed);
		}
		const candidates = written.map((text, index) => sample.makeCandidate(index, { id: `${generation_id}_${index}`, text: before + text, continued_chars: [...before].length, finish_reason: this.stopped ? "cancelled" : index === 3 ? "length" : "end" }));
		if (this.thumbs < 8) for (const { scores } of candidates) scores.taste = null;
		candidates.forEach((candidate, index) => onEvent({ event: "candidate", index, candidate }));
		await sleep(120);
		const [first, second] = candidates;
		const result = { ...sample.makeResult([]), generation_id, chosen: first?.id ?? "", candidates, explore_pair: first && second && !before ? ([first.id, second.id] as [string, string]) : null };
		this.generations.unshift({ created_at: new Date().toISOString(), request, result });
		onEvent({ event: "chosen", result: structuredClone(result) });
		this.announce({ change: "generation_stored", data: { generation_id } });
	}

	/** The download that the Library shows. */
	private pull() {
		const progress = { job_id: "job_pull", repo: "Qwen/Qwen2.5-0.5B-Instruct", doing: "model.safetensors", bytes: 412e6, total_bytes: 1000e6, bytes_per_second: 8.4e6, eta_s: 70 };
		this.announce({ change: "pull_progress", data: { progress } });
	}

	subscribe(onEvent: (event: Event) => void, onState: (state: LinkState) => void): () => void {
		this.listener = onEvent;
		setTimeout(() => this.pull(), 300);
		onState("live");
		return () => (this.listener = () => undefined);
	}

	saveText = async () => "";
	saveBytes = async () => "";

	do_status = () => ({ ...sample.status, taste: this.taste(), problems: this.fault ? [{ code: "conflict" as const, message: "A training was interrupted when Inkling was closed.", hint: "You can resume it in Teach.", detail: [] }] : [] });
	do_doctor = () => sample.doctor;
	do_settings = () => this.settings;
	do_settings_view = () => ({ settings: this.settings, descriptions: sample.descriptions, data_dir: sample.status.data_dir });
	do_check_settings = (update: Record<string, unknown>) => this.checked(update);
	do_update_settings = (update: Record<string, unknown>) => (this.settings = this.checked(update));
	do_move_data_folder = ({ path }: { path: string }) => (path.startsWith("/") ? { ...this.do_status(), data_dir: path } : fail("invalid_input", "The folder must be given with its full path.", "It starts with a slash."));
	do_generations = ({ search }: { search?: string }) => ({
		items: this.generations
			.filter(({ request, result }) => `${request.prompt} ${result.candidates[0]?.text}`.toLowerCase().includes((search ?? "").toLowerCase()))
			.map(({ created_at, request, result }) => ({ generation_id: result.generation_id, created_at, prompt: request.prompt, genres: request.genres ?? {}, style: request.style ?? null, opening: result.candidates[0]?.text.slice(0, 120) ?? "", verdict: result.candidates.map(({ feedback }) => feedback?.verdict).find(Boolean) ?? null, candidates: result.candidates.length })),
		next: null,
	});
	do_generation = ({ generation_id }: { generation_id: string }) => structuredClone(this.generations.find(({ result }) => result.generation_id === generation_id));
	do_remove_generation = ({ generation_id }: { generation_id: string }) => {
		const found = this.generations.find(({ result }) => result.generation_id === generation_id);
		if (found) this.removed.set(generation_id, found);
		this.generations = this.generations.filter((one) => one !== found);
		return { ok: true };
	};
	do_restore_generation = ({ generation_id }: { generation_id: string }) => {
		const found = this.removed.get(generation_id);
		if (found) this.generations.unshift(found);
		return { ok: true };
	};
	do_export_candidate = () => ({ file_name: "story.txt", text: STORIES[0] });
	do_draft = () => ({ json: this.draft });
	do_save_draft = ({ json }: { json: string }) => {
		this.draft = json;
		return { ok: true };
	};
	do_feedback = ({ candidate_id, verdict }: { candidate_id: string; verdict?: number }) => {
		const found = this.find(candidate_id);
		if (found && !found.feedback) this.thumbs++;
		if (found) found.feedback = { id: "f", candidate_id, verdict: verdict ?? 1, tags: [], comment: null, edited_text: null, created_at: sample.AT };
		this.announce({ change: "feedback_stored", data: { feedback_id: "f", candidate_id } });
		return { feedback_id: "f", taste: this.taste() };
	};
	do_prefer = () => ({ preference_id: "pref_1", taste: this.taste() });
	do_taste_versions = () => [3, 2, 1].map((version) => ({ version, created_at: ago(30 * (4 - version)), summary: { ...this.taste(), thumbs: 8 * version }, current: version === 3 }));
	do_restore_taste = () => ({ ...sample.tasteCard, summary: { ...this.taste(), pinned: true } });
	do_train_taste = () => ({ ok: true, model_path: "", vocab_size: 0, auc: null, examples: this.thumbs });
	private answers = new Map<number, "first" | "second" | "neither">();
	do_blind_test = ({ run_id, again }: { run_id: string; again?: boolean }) => {
		if (again) this.answers.clear();
		const done = this.answers.size === 5;
		const side = (number: number) => (number % 2 ? ("first" as const) : ("second" as const));
		const pairs = [1, 2, 3, 4, 5].map((number) => ({ number, prompt: "A young wizard discovers an ancient spellbook", genres: { fantasy: 70 }, first: STORIES[number % 4] ?? "", second: STORIES[(number + 1) % 4] ?? "", choice: this.answers.get(number) ?? null, trained: done ? side(number) : null }));
		const trained = pairs.filter(({ choice, number }) => choice === side(number)).length;
		const neither = pairs.filter(({ choice }) => choice === "neither").length;
		return { run_id, pairs, result: done ? { trained, neither, before: 5 - trained - neither } : null, sentence: "" };
	};
	do_answer_blind = ({ run_id, number, choice }: { run_id: string; number: number; choice: "first" | "second" | "neither" }) => {
		this.answers.set(number, choice);
		return this.do_blind_test({ run_id });
	};
	do_taste = () => (this.empty ? { ...sample.tasteCard, summary: this.taste(), likes: [], dislikes: [], unsure: [], liked_texts: this.thumbs, disliked_texts: 0, sentence: "No taste found yet. Thumb a few more texts, some up and some down." } : { ...sample.tasteCard, summary: this.taste() });
	do_plan_training = ({ hyperparameters }: { hyperparameters?: Record<string, number> }) => {
		if ((hyperparameters?.learning_rate ?? 0) > 1) throw new Failure({ code: "invalid_input", message: "One field cannot be used.", detail: [{ field: "hyperparameters.learning_rate", message: "Learning rate is too large; it must be 0.000001 to 1." }] });
		return this.empty
			? { ...sample.plan, examples: 0, heldout: 0, ready: false, sentence: "There is nothing to learn from yet.", openings: [], blocked_by: { code: "not_ready", message: "No text was liked or edited so far; four are needed.", hint: "Write, and give a thumb up to what you like.", detail: [] } }
			: { ...sample.plan, hyperparameters: { ...sample.plan.hyperparameters, ...hyperparameters } };
	};
	do_train = () => {
		const run_id = `run_${Date.now()}`;
		const job = sample.makeJob({ id: `job_${run_id}`, run_id, progress: 0, phase: "prepare", created_at: new Date().toISOString(), started_at: new Date().toISOString() });
		const run = sample.makeRun({ run_id, job_id: job.id, status: "running", phase: "prepare", step: 0, final_loss: null, verdict: null, adapter_id: null, seconds: null, checkpoint_step: null, created_at: job.created_at });
		this.jobs.unshift(job);
		this.runs.unshift(run);
		this.metrics.set(run_id, []);
		this.go(job, run);
		return { job_id: job.id, run_id };
	};
	do_jobs = () => this.jobs;
	do_runs = () => this.runs;
	do_run = ({ run_id }: { run_id: string }) => this.runs.find((run) => run.run_id === run_id);
	do_run_metrics = ({ run_id }: { run_id: string }) => ({ run_id, metrics: this.metrics.get(run_id) ?? [] });
	do_run_chart = () => ({ file_name: "loss.svg", mime: "image/svg+xml", base64: "" });
	do_pause_job = ({ job_id }: { job_id: string }) => this.halt(job_id, "paused");
	do_cancel_job = ({ job_id }: { job_id: string }) => this.halt(job_id, "cancelled");
	do_resume_job = ({ job_id }: { job_id: string }) => {
		const job = this.jobs.find(({ id }) => id === job_id);
		const run = this.runs.find((one) => one.run_id === job?.run_id);
		if (!job || !run) return fail("not_found", "No such job.");
		this.go(job, run);
		return job;
	};
	do_resume_run = ({ run_id }: { run_id: string }) => {
		const run = this.runs.find((one) => one.run_id === run_id);
		return { run_id, job_id: this.do_resume_job({ job_id: run?.job_id ?? "" }).id };
	};
	do_decide = ({ run_id, decision }: { run_id: string; decision: Run["decision"] }) => {
		const run = this.runs.find((one) => one.run_id === run_id);
		const adapter = this.adapters.find(({ id }) => id === run?.adapter_id);
		if (!run || !adapter) return fail("not_found", "No such run.");
		this.runs = this.runs.map((one) => (one === run ? { ...run, decision } : one));
		return this.change({ ...adapter, state: decision === "keep" ? "active" : "trial" });
	};
	do_delete_run = ({ run_id }: { run_id: string }) => {
		this.runs = this.runs.filter((run) => run.run_id !== run_id);
		return { ok: true };
	};
	do_auto_trains = () => this.sessions;
	do_auto_train = ({ num_examples }: AutoTrainRequest) => {
		const made = sample.makeSession(0);
		this.sessions.unshift({ ...made, id: `auto_${Date.now()}`, state: "running", settings: { ...made.settings, num_examples: num_examples ?? 50 }, created_at: new Date().toISOString() });
		this.examples.clear();
		const step = setInterval(() => {
			const session = this.sessions[0];
			if (!session || session.state !== "running") return clearInterval(step);
			const { id, settings, created_at } = session;
			const next = session.current + 1;
			const attempt = sample.makeAttempt(next - 1);
			if (attempt.example_id) {
				const example = sample.makeExample(attempt, { auto_train_id: id });
				this.examples.set(example.id, example);
				this.announce({ change: "example_changed", data: { example } });
			}
			const state = next < settings.num_examples ? "running" : "completed";
			const auto_train: AutoTrain = { ...sample.makeSession(next), id, settings, created_at, state };
			this.sessions[0] = auto_train;
			this.announce({ change: "auto_train_changed", data: { auto_train } });
		}, 160);
		return this.sessions[0];
	};
	do_auto_train_attempts = () => Array.from({ length: this.sessions[0]?.current ?? 0 }, (_, position) => sample.makeAttempt(position));
	do_auto_train_result = () => sample.makeAutoResult(this.sessions[0] ?? sample.makeSession(0));
	do_examples = () => [...this.examples.values()];
	do_drop_example = ({ example_id }: { example_id: string }) => this.changed(example_id, { dropped: true });
	do_restore_example = ({ example_id }: { example_id: string }) => this.changed(example_id, { dropped: false });
	do_edit_example = ({ example_id, text }: { example_id: string; text: string }) => this.changed(example_id, { text, edited: true });
	do_training_stats = () => {
		const kept = [...this.examples.values()].filter(({ dropped }) => !dropped).length;
		return sample.makeStats({ training_examples: kept, new_examples: kept, examples_until_next_training: Math.max(0, 50 - kept), ready_for_finetuning: kept >= 50 });
	};
	do_train_personal = () => this.do_train();
	do_adapters = () => this.adapters;
	do_bases = () => (this.fault ? [{ ...sample.base, problem: { code: "model_damaged", message: "model.safetensors does not match its checksum.", hint: "Install Inkling again; your texts stay.", detail: [] } }] : [sample.base, sample.smallBase]);
	do_catalogue = () => sample.catalogue;
	do_pull_base = ({ model }: { model: string }) => (model.includes("/") ? { job_id: "job_pull", repo: model } : fail("invalid_input", `"${model}" is not the name of a model: it should look like "organisation/model".`, "Copy the name from the model's page."));
	do_import_base = () => sample.smallBase;
	do_remove_base = () => ({ ok: true, files_deleted: true, adapters: [] });
	do_member = () => ({ host: null, model: "", key_set: false, inside: false });
	do_set_member_key = ({ key }: { key: string }) => ({ host: "api.example.org", model: "writer-1", key_set: key !== "", inside: false });
	do_activate_adapter = ({ adapter_id, strength }: { adapter_id: string; strength?: number }) => this.state(adapter_id, "active", strength);
	do_deactivate_adapter = ({ adapter_id }: { adapter_id: string }) => this.state(adapter_id, "retired");
	do_delete_adapter = ({ adapter_id }: { adapter_id: string }) => {
		this.adapters = this.adapters.filter(({ id }) => id !== adapter_id);
		return { ok: true };
	};
	do_export_adapter = ({ out }: { out: string }) => ({ path: out });

	private taste = () => ({ trained: true, thumbs: this.thumbs, auc: this.thumbs > 7 ? 0.81 : null, confident: this.thumbs > 7 });
	private changed(id: string, change: Partial<Example>): Example {
		const found = this.examples.get(id);
		if (!found) return fail("not_found", "No such example.");
		const example = { ...found, ...change };
		this.examples.set(id, example);
		this.announce({ change: "example_changed", data: { example } });
		return example;
	}
	private find = (id: string) => this.generations.flatMap(({ result }) => result.candidates).find((one) => one.id === id);
	private announce = (change: Change) => this.listener({ seq: 1, at: new Date().toISOString(), ...change });

	private checked(update: Record<string, unknown>): Settings {
		const detail = Object.entries(update).flatMap(([field, value]) => {
			const one = sample.descriptions.find(({ key }) => key === field);
			if (one?.kind.kind !== "integer" && one?.kind.kind !== "number") return [];
			const { min, max } = one.kind;
			if (typeof value !== "number") return [{ field, message: `${one.label} cannot be ${JSON.stringify(value)}.` }];
			return value < min || value > max ? [{ field, message: `${one.label} is ${value}; it must be ${min} to ${max}.` }] : [];
		});
		if (detail.length > 0) throw new Failure({ code: "invalid_input", message: detail[0]?.message ?? "", detail });
		return { ...this.settings, ...update } as Settings;
	}

	private state(adapter_id: string, state: Adapter["state"], strength?: number): Adapter {
		const adapter = this.adapters.find(({ id }) => id === adapter_id);
		return adapter ? this.change({ ...adapter, state, strength: strength ?? adapter.strength }) : fail("not_found", "No such adapter.");
	}

	private change(adapter: Adapter): Adapter {
		this.adapters = this.adapters.map((one) => (one.id === adapter.id ? adapter : adapter.state === "active" && one.state === "active" ? { ...one, state: "retired" } : one));
		this.announce({ change: "adapter_changed", data: { adapter } });
		return adapter;
	}

	private update(job: Job, run: Run): void {
		this.jobs = this.jobs.map((one) => (one.id === job.id ? job : one));
		this.runs = this.runs.map((one) => (one.run_id === run.run_id ? run : one));
		this.announce({ change: "job_changed", data: { job } });
		this.announce({ change: "run_changed", data: { run } });
	}

	private halt(job_id: string, state: "paused" | "cancelled"): Job {
		clearInterval(this.timer);
		const job = this.jobs.find(({ id }) => id === job_id);
		const run = this.runs.find((one) => one.job_id === job_id);
		if (!job || !run) return fail("not_found", "No such job.");
		this.update({ ...job, state }, { ...run, status: state, step: this.metrics.get(run.run_id)?.length ?? 0 });
		return { ...job, state };
	}

	private go(first: Job, firstRun: Run): void {
		let job = { ...first, state: "running" as const, phase: "train" as Job["phase"] };
		let run = { ...firstRun, status: "running" as const, phase: "train" as Run["phase"] };
		this.update(job, run);
		this.timer = setInterval(() => {
			const done = this.metrics.get(run.run_id) ?? [];
			const batch = sample.makeMetrics(done.length, Math.min(done.length + 2, 200));
			done.push(...batch);
			this.metrics.set(run.run_id, done);
			this.announce({ change: "run_metrics", data: { run_id: run.run_id, metrics: batch } });
			job = { ...job, progress: done.length / 200 };
			run = { ...run, step: done.length };
			if (done.length % 20 === 0) this.update(job, run);
			if (done.length < 200) return;
			clearInterval(this.timer);
			const adapter = sample.makeAdapter({ id: `adp_${run.run_id}`, name: "Soft prompt of today", run_id: run.run_id, created_at: new Date().toISOString() });
			this.adapters.unshift(adapter);
			this.change(adapter);
			this.update({ ...job, state: "completed", finished_at: new Date().toISOString() }, { ...run, status: "completed", phase: "evaluate", verdict: sample.verdict, adapter_id: adapter.id, seconds: 31, final_loss: 2.29 });
		}, 100);
	}
}

function ago(minutes: number): string {
	return new Date(Date.now() - minutes * 60_000).toISOString();
}

function sleep(milliseconds: number): Promise<void> {
	return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function fail(code: "not_found" | "out_of_memory" | "invalid_input", message: string, hint?: string): never {
	throw new Failure({ code, message, hint: hint ?? null });
}
