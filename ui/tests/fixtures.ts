import { GENRES, STYLES } from "../src/api/bindings";
import type {
	Adapter,
	AutoTrain,
	AutoTrainAttempt,
	AutoTrainResult,
	Base,
	Candidate,
	CatalogueEntry,
	DoctorReport,
	Example,
	Hyperparameters,
	Job,
	Metric,
	Run,
	Search,
	SettingDescription,
	Settings,
	Status,
	TasteCard,
	TasteSummary,
	TrainingPlan,
	TrainingStats,
	Trial,
	TrialState,
	Verdict,
	WriteResult,
} from "../src/api/bindings";

/** Values as the backend sends them, for tests and for the demo. */

export const AT = "2026-11-21T09:30:00.000Z";

export const base: Base = {
	id: "story",
	name: "Inkling Story",
	architecture: "llama",
	parameters: 28_300_000,
	size_bytes: 58_000_000,
	context: 1024,
	license: "MIT",
	built_in: true,
	kind: "story",
	answers: false,
	origin: "built_in",
	source: null,
	memory_mb: 180,
	tokens_per_second: null,
	is_default: true,
	problem: null,
};

export const smallBase: Base = {
	...base,
	id: "smollm2-135m-instruct",
	name: "SmolLM2-135M-Instruct",
	parameters: 134_500_000,
	size_bytes: 271_000_000,
	context: 8192,
	license: "apache-2.0",
	built_in: false,
	kind: "instruct",
	answers: true,
	origin: "hub",
	source: "HuggingFaceTB/SmolLM2-135M-Instruct@12fd25f77366",
	memory_mb: 305,
	tokens_per_second: 38.4,
	is_default: false,
};

const offer: CatalogueEntry = { id: "smollm2-360m", name: "SmolLM2 360M", repo: "HuggingFaceTB/SmolLM2-360M", gguf: null, architecture: "llama", kind: "plain", parameters: 361_821_120, size_bytes: 727_000_000, memory_mb: 566, license: "apache-2.0", good_for: "Goes on with any text. Good to train on.", installed: null, job_id: null, problem: null };
export const catalogue: CatalogueEntry[] = [
	{ ...offer, id: "smollm2-135m-instruct", name: "SmolLM2 135M Instruct", repo: "HuggingFaceTB/SmolLM2-135M-Instruct", kind: "instruct", installed: "smollm2-135m-instruct" },
	offer,
	{ ...offer, id: "qwen2.5-0.5b-instruct", name: "Qwen2.5 0.5B Instruct", repo: "Qwen/Qwen2.5-0.5B-Instruct", kind: "instruct", size_bytes: 1_000_000_000, memory_mb: 718, good_for: "Answers and stories in many languages.", job_id: "job_pull" },
	{ ...offer, id: "phi-3-mini", name: "Phi-3 mini 4k Instruct (4 bit)", repo: "microsoft/Phi-3-mini-4k-instruct-gguf", kind: "instruct", size_bytes: 2_394_000_000, memory_mb: 2794, license: "mit", good_for: "The most careful answers; needs a strong machine and patience.", problem: { code: "out_of_memory", message: "This base needs about 2.8 GB of memory; 1.6 GB of this machine's memory can be used for it.", hint: "Choose a smaller base, or close other programs.", detail: [] } },
];

export const noTaste: TasteSummary = { trained: false, thumbs: 0, auc: null, confident: false, pinned: false };

export const status: Status = {
	version: "0.1.0",
	data_dir: "/home/ada/.local/share/inkling",
	base,
	taste: noTaste,
	active_adapters: [],
	running_job: null,
	queued_jobs: 0,
	problems: [],
};

export const settings: Settings = {
	theme: "system",
	trainingSearch: false,
	trainingSearchMinutes: 10,
	loraRank: 16,
	loraAlpha: 32,
	loraLearningRate: 0.001,
	textScale: 1,
	candidates: 4,
	maxTokens: 260,
	temperature: 0.8,
	defaultBase: "story",
	memberUrl: "",
	memberModel: "",
	guidance: 2.5,
	genreGuidance: 3,
	topP: 0.95,
	topK: 0,
	minP: 0,
	repetitionPenalty: 1.15,
	genrePrompts: false,
	explore: true,
	weightTaste: 3,
	weightQuality: 1,
	weightOnPrompt: 1,
	weightFluency: 1,
	weightGenre: 0.5,
	retryBelow: 4,
	memberVariety: true,
	tasteEveryThumbs: 1,
	activateWhenBetter: true,
	autoTrainEvery: 50,
	autoTrainAutomatic: false,
	tastePairs: 120,
	virtualTokens: 16,
	trainingEpochs: 8,
	trainingLearningRate: 0.02,
	trainingBatchSize: 4,
	trainingMinSteps: 60,
	trainingCheckpointSteps: 25,
	trainingCheckpointsKept: 2,
	trainingThreads: 0,
	memoryBudgetMb: 0,
	softPromptEnabled: false,
	softPromptModelDir: "",
	softPromptConfidenceThreshold: 0.85,
	serverPort: 9009,
};

const integer = (min: number, max: number) => ({ kind: "integer", min, max }) as const;
const real = (min: number, max: number) => ({ kind: "number", min, max }) as const;

export const descriptions: SettingDescription[] = (
	[
		["theme", "Appearance", "Colours", "Light, dark, or as your desktop says.", { kind: "choice", options: ["system", "light", "dark"] }],
		["textScale", "Appearance", "Text size", "1 is normal, 2 is twice as large.", real(0.8, 2)],
		["candidates", "Generation", "Candidates", "How many texts are written for each prompt; the best one is opened.", integer(1, 16)],
		["maxTokens", "Generation", "Length", "The longest text, in tokens; a token is about three quarters of a word.", integer(16, 900)],
		["temperature", "Generation", "Creativity", "Low is predictable, high is surprising.", real(0, 2)],
		["explore", "Generation", "Ask for comparisons", "Now and then offers the pair of texts that your taste would learn most from.", { kind: "switch" }],
		["weightTaste", "Voting", "Weight of your taste", "How much your own thumbs count when the best text is chosen.", real(0, 10)],
		["tasteEveryThumbs", "Learning", "Relearn taste after", "Your taste is learned anew after this many thumbs.", integer(1, 100)],
		["virtualTokens", "Training", "Soft prompt length", "How many learned prompt vectors stand before your prompt.", integer(1, 128)],
		["trainingEpochs", "Training", "Passes", "How often each liked text is seen.", integer(1, 200)],
		["trainingLearningRate", "Training", "Learning rate", "How large each learning step is.", real(0.000001, 1)],
		["defaultBase", "Generation", "Base", "The base that texts are written with unless you choose another one.", { kind: "base" }],
		["memberUrl", "Member over the network", "Server", "A server that speaks OpenAI's API writes one more candidate. Your prompts are sent to it; leave this empty and nothing leaves this machine.", { kind: "text" }],
		["memberModel", "Member over the network", "Model of that server", "The name by which the server knows the model.", { kind: "text" }],
		["softPromptModelDir", "Soft prompts", "Soft-prompt folder", "A folder with a trained soft prompt; it must exist when the fallback is on.", { kind: "folder" }],
		["serverPort", "API server", "Port", "Where `inkling serve` listens on this machine.", integer(1024, 65535)],
	] as const
).map(([key, group, label, sentence, kind]) => ({ key, group, label, sentence, kind, default_json: JSON.stringify(settings[key]) }) as SettingDescription);

export const tasteCard: TasteCard = {
	summary: { trained: true, thumbs: 34, auc: 0.81, confident: true, pinned: false },
	likes: ["dialogue early", "short sentences"],
	dislikes: ["sad endings"],
	unsure: ["first person"],
	sentence: "You like dialogue early and short sentences. You dislike sad endings. I am not sure yet about first person.",
	liked_texts: 21,
	disliked_texts: 13,
	version: 34,
};

export const hyperparameters: Hyperparameters = {
	virtual_tokens: 16,
	rank: 16,
	alpha: 32,
	dropout: 0,
	target_modules: [],
	layers: 0,
	quantization: "fp32",
	beta: 0.1,
	warmup_steps: 10,
	schedule: "cosine",
	learning_rate: 0.02,
	epochs: 8,
	steps: 200,
	batch_size: 4,
	max_samples: 2000,
	source_max_tokens: 384,
	target_max_tokens: 384,
	checkpoint_steps: 25,
	checkpoints_kept: 2,
	seed: 0,
	threads: 2,
};

export const plan: TrainingPlan = {
	recipe: "soft_prompt",
	base: "story",
	base_name: "Inkling Story",
	hyperparameters,
	examples: 21,
	heldout: 4,
	estimated_seconds: 160,
	estimated_memory_mb: 310,
	available_memory_mb: 5200,
	ready: true,
	blocked_by: null,
	sentence: "A soft prompt for the built-in base, from 21 texts that you liked or edited.",
	dataset: null,
	search: null,
	warning: "",
	openings: ["“Don't touch it,” said the librarian.", "The lighthouse had not been lit for nine years.", "Marta counted the coins again."],
};

export const verdict: Verdict = {
	win_rate: 0.64,
	low: 0.57,
	high: 0.71,
	pairs: 60,
	fluency_ratio: 0.988,
	diversity_ratio: 0.97,
	repetition: 0.002,
	repetition_before: 0.001,
	heldout_loss_before: 2.61,
	heldout_loss_after: 2.44,
	disarray: null,
	promoted: true,
	reason: "Better: its texts won 64 % of 60 comparisons, and fluency and variety were kept.",
};

export function makeRun(change: Partial<Run> = {}): Run {
	return {
		run_id: "run_1",
		job_id: "job_1",
		status: "completed",
		recipe: "soft_prompt",
		base: "story",
		hyperparameters,
		search: null,
		phase: "evaluate",
		step: 200,
		samples: 21,
		heldout: 4,
		final_loss: 2.31,
		adapter_id: "adp_1",
		verdict,
		decision: null,
		error: null,
		seconds: 163,
		peak_memory_mb: 318,
		checkpoint_step: 200,
		directory: "/home/ada/.local/share/inkling/runs/run_1",
		triggered_by: "person",
		created_at: AT,
		started_at: AT,
		finished_at: AT,
		...change,
	};
}

export function makeJob(change: Partial<Job> = {}): Job {
	return {
		id: "job_1",
		kind: "train",
		state: "running",
		priority: "normal",
		phase: "train",
		progress: 0.4,
		run_id: "run_1",
		attempts: 1,
		error: null,
		created_at: AT,
		started_at: AT,
		finished_at: null,
		title: "Soft prompt on Inkling Story from 21 texts",
		...change,
	};
}

export function makeAdapter(change: Partial<Adapter> = {}): Adapter {
	return {
		id: "adp_1",
		name: "Soft prompt of 21 November",
		kind: "soft_prompt",
		state: "active",
		base: "story",
		run_id: "run_1",
		strength: 1,
		path: "adapters/adp_1",
		sha256: "00",
		size_bytes: 33_000,
		verdict,
		created_at: AT,
		...change,
	};
}

/** A curve that falls and wobbles, the same every time. */
export function makeMetrics(from: number, to: number, total = 200): Metric[] {
	return Array.from({ length: to - from }, (_, index) => {
		const step = from + index + 1;
		const loss = 2.25 + 0.95 * Math.exp(-step / 45) + 0.05 * Math.sin(step * 1.7) + 0.04 * Math.sin(step * 0.61);
		return {
			step,
			total_steps: total,
			loss,
			heldout_loss: step % 10 === 0 ? 2.36 + 0.85 * Math.exp(-step / 50) : null,
			lr: 0.02,
			tokens_per_second: 1900 + 60 * Math.sin(step),
			eta_s: (total - step) * 0.8,
		};
	});
}

export function makeCandidate(index: number, change: Partial<Candidate> = {}): Candidate {
	return {
		id: `cnd_${index + 1}`,
		text: `Text number ${index + 1}.`,
		member: "story",
		finish_reason: "end",
		tokens: 120,
		rank: index + 1,
		scores: {
			taste: 0.82 - index * 0.1,
			quality: 8.8 - index * 0.5,
			on_prompt: 0.91 - index * 0.06,
			fluency: 0.76,
			genre: 0.69,
			total: 8.4 - index * 0.6,
			quality_parts: [
				{ rule: "base", points: 7 },
				{ rule: "200–800 characters", points: 1 },
				{ rule: "three or more sentences", points: 0.5 },
				{ rule: "dialogue", points: 0.3 },
				{ rule: "repetition", points: -0.4 },
			],
		},
		feedback: null,
		...change,
	};
}

export function makeResult(texts: string[], change: Partial<WriteResult> = {}): WriteResult {
	return {
		generation_id: "gen_1",
		chosen: "cnd_1",
		candidates: texts.map((text, index) => makeCandidate(index, { text })),
		seed: 7,
		seconds: 3.1,
		first_token_seconds: 0.2,
		tokens_per_second: 212,
		notices: [],
		explore_pair: null,
		...change,
	};
}

export const doctor: DoctorReport = {
	version: "0.1.0",
	sqlite: "3.50.4",
	isa: "avx2+fma",
	threads: 2,
	memory: { total_mb: 7960, available_mb: 5200, process_mb: 214 },
	data_dir: status.data_dir,
	models: [base],
	network_allowed: ["huggingface.co (downloads that you start)"],
	problems: [],
};

export const genreNames = GENRES.map(({ name }) => name);

export function makeStats(change: Partial<TrainingStats> = {}): TrainingStats {
	return { user_id: "me", training_examples: 37, new_examples: 37, examples_until_next_training: 13, custom_model_exists: false, custom_model: null, ready_for_finetuning: false, ...change };
}

const REASONS = ["cut-off ending", "off the prompt", "near-duplicate"];
const PROMPTS = ["A small dragon wants to learn how to knit before winter comes.", "A child on Mars sees rain for the first time.", "Something under the ice is tapping back."];

export function makeAttempt(position: number, change: Partial<AutoTrainAttempt> = {}): AutoTrainAttempt {
	const kept = position % 6 !== 4;
	const quality = kept ? 7.3 + ((position * 7) % 20) / 10 : 5.1 + (position % 3) / 2;
	return {
		position,
		genre: GENRES[position % GENRES.length]?.name ?? "fantasy",
		style: STYLES[(position + (position >> 3)) % STYLES.length]?.name ?? "twist",
		prompt: PROMPTS[position % 3] ?? "",
		member: "story",
		quality,
		example_id: kept ? `ex_${position}` : null,
		reason: kept ? null : (REASONS[position % 3] ?? null),
		...change,
	};
}

export function makeExample(attempt: AutoTrainAttempt, change: Partial<Example> = {}): Example {
	return {
		id: attempt.example_id ?? "ex_0",
		user_id: "me",
		source: "auto",
		auto_train_id: "auto_1",
		prompt: attempt.prompt,
		genre: attempt.genre,
		style: attempt.style,
		text: "The rain began on a Tuesday.\n\n\"What is it?\" asked Juno. Nobody on the base had ever seen it, so nobody said anything. She put out her tongue, and it tasted of iron and of home.",
		quality: attempt.quality ?? 0,
		quality_parts: [{ rule: "base", points: 7 }, { rule: "dialogue", points: 0.3 }],
		member: "story",
		seed: 7,
		edited: false,
		dropped: false,
		remembered: false,
		learned_by: null,
		created_at: AT,
		...change,
	};
}

/** A session that has tried `current` of its examples. */
export function makeSession(current: number, change: Partial<AutoTrain> = {}): AutoTrain {
	const attempts = Array.from({ length: current }, (_, position) => makeAttempt(position));
	const kept = attempts.filter(({ example_id }) => example_id !== null);
	const total = 50;
	return {
		id: "auto_1",
		job_id: "job_auto_1",
		state: current < total ? "running" : "completed",
		settings: { user_id: "me", num_examples: total, genres: GENRES.map(({ name }) => name), styles: STYLES.map(({ name }) => name), store_in_memory: false, seed: 41, n: 4, max_tokens: 260 },
		current,
		successful: kept.length,
		failed: current - kept.length,
		average_quality: kept.length > 0 ? kept.reduce((sum, { quality }) => sum + (quality ?? 0), 0) / kept.length : null,
		seconds: current * 1.1,
		eta_s: current > 0 && current < total ? (total - current) * 1.1 : null,
		latest: attempts.at(-1) ?? null,
		error: null,
		created_at: AT,
		finished_at: current < total ? null : AT,
		...change,
	};
}

export function makeAutoResult(session: AutoTrain): AutoTrainResult {
	const attempts = Array.from({ length: session.current }, (_, position) => makeAttempt(position));
	const quality_histogram = Array.from({ length: 20 }, () => 0);
	const genre_distribution: AutoTrainResult["genre_distribution"] = Object.fromEntries(session.settings.genres.map((genre) => [genre, 0]));
	const failure_reasons: Record<string, number> = {};
	for (const { genre, quality, example_id, reason } of attempts) {
		const bar = Math.min(19, Math.floor((quality ?? 0) * 2));
		quality_histogram[bar] = (quality_histogram[bar] ?? 0) + 1;
		if (example_id) genre_distribution[genre] = (genre_distribution[genre] ?? 0) + 1;
		if (reason) failure_reasons[reason] = (failure_reasons[reason] ?? 0) + 1;
	}
	return {
		auto_train_id: session.id,
		state: session.state,
		seed: session.settings.seed,
		total_requested: session.settings.num_examples,
		successful: session.successful,
		failed: session.failed,
		genre_distribution,
		average_quality: session.average_quality ?? 0,
		total_time: session.seconds,
		stored_in_memory: false,
		training_stats: makeStats(),
		ready_for_finetuning: false,
		failure_reasons,
		quality_histogram,
	};
}

/** A search of which the first rung is done and the second has begun. */
export function makeSearch(change: Partial<Search> = {}): Search {
	const trial = (number: number, numbers: Partial<Hyperparameters>, state: TrialState, ...losses: (number | null)[]): Trial => ({
		number,
		recipe: number % 2 ? "lora" : "soft_prompt",
		hyperparameters: { ...hyperparameters, ...numbers },
		state,
		rungs: losses.map((heldout_loss, at) => ({ steps: at ? 40 : 13, heldout_loss, seconds: 4 })),
		problem: losses.includes(null) ? "The loss became NaN." : null,
	});
	return {
		run_id: "run_1",
		plan: { budget_seconds: 600, axes: ["recipe", "rank", "learning_rate"] },
		rungs: [13, 40],
		trials: [
			trial(0, {}, "climbing", 3.25, 3.11),
			trial(1, { rank: 32, learning_rate: 0.002, dropout: 0.05 }, "running", 3.02),
			trial(2, { virtual_tokens: 4 }, "dropped", 3.3),
			trial(3, { rank: 4, target_modules: ["q_proj", "v_proj"] }, "dropped", 3.21),
			trial(4, { learning_rate: 1 }, "failed", null),
			trial(5, { rank: 8 }, "climbing", 3.08, 2.99),
			trial(6, { virtual_tokens: 64 }, "dropped", 3.4),
		],
		seconds: 47,
		found: null,
		...change,
	};
}
