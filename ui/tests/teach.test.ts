import { cleanup, render, screen, waitFor, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Failure } from "../src/api/errors";
import { startEvents } from "../src/stores/events";
import { library } from "../src/stores/library.svelte";
import { route } from "../src/stores/route.svelte";
import { work } from "../src/stores/work.svelte";
import Activity from "../src/views/Activity/Activity.svelte";
import Teach from "../src/views/Teach/Teach.svelte";
import { AT, makeAdapter, makeJob, makeMetrics, makeRun, makeSearch, plan, tasteCard } from "./fixtures";
import { ScriptedTransport } from "./scripted";

// jsdom has no canvas: the chart's own arithmetic is tested in series.test.ts, its drawing in the end-to-end tests.
vi.mock("uplot", () => ({ default: Object.assign(vi.fn(), { join: () => [[]] }) }));

const user = userEvent.setup();
let transport: ScriptedTransport;

async function open(answers: ConstructorParameters<typeof ScriptedTransport>[0] = {}, where = "train"): Promise<void> {
	transport = new ScriptedTransport(answers);
	startEvents(() => undefined);
	await Promise.all([work.load(), library.load()]);
	route.go("teach", where);
	render(Teach);
}

beforeEach(() => work.versions.clear());
afterEach(cleanup);

const button = (name: string) => screen.getByRole("button", { name });
const points = () => Number(screen.getByTestId("loss-chart").dataset.points);

test("before the first training the page says what will be here and what is missing", async () => {
	await open({
		plan_training: () => ({ ...plan, ready: false, examples: 0, blocked_by: { code: "not_ready", message: "No text was liked so far.", hint: "Give a thumb up.", detail: [] } }),
	});
	expect(await screen.findByText("No text was liked so far.")).toBeInTheDocument();
	expect(screen.getByText("Give a thumb up.")).toBeInTheDocument();
	expect(button("Train")).toBeDisabled();
	await user.click(button("Write and thumb some texts"));
	expect(route.view).toBe("write");
});

test("the plan is shown with its cost, changed figures are planned anew, faults stand at their field", async () => {
	await open({
		plan_training: ({ hyperparameters }) => {
			if ((hyperparameters?.learning_rate ?? 0) > 1) throw new Failure({ code: "invalid_input", message: "A figure.", detail: [{ field: "hyperparameters.learning_rate", message: "learning_rate is 5; it must be above 0 and at most 1." }] });
			return plan;
		},
	});
	expect(await screen.findByText(/about 2 min 40 s · 310 MB of 5.1 GB free/)).toBeInTheDocument();
	await user.click(button("Change"));
	await user.type(screen.getByRole("textbox", { name: /Learning rate/ }), "5");
	expect(await screen.findByText(/must be above 0 and at most 1/)).toBeInTheDocument();
	expect(button("Train")).toBeDisabled();
	await user.clear(screen.getByRole("textbox", { name: /Learning rate/ }));
	await waitFor(() => expect(button("Train")).toBeEnabled());
});

test("with enough pairs a LoRA is offered, until another method is chosen", async () => {
	const asked: string[] = [];
	await open({
		plan_training: ({ recipe }) => {
			asked.push(recipe);
			return recipe === "lora" ? { ...plan, recipe, why: "It learns from pairs.", hyperparameters: { ...plan.hyperparameters, objective: "dpo" } } : { ...plan, recipe, why: "It learns from liked texts." };
		},
	});
	expect(await screen.findByText("It learns from pairs.")).toBeInTheDocument();
	await user.click(button("Change"));
	await user.click(button("Soft prompt"));
	expect(await screen.findByText("It learns from liked texts.")).toBeInTheDocument();
	expect(asked.at(-1)).toBe("soft_prompt");
});

test("a training is started, drawn as it runs, paused, resumed and cancelled", async () => {
	const runs = [] as ReturnType<typeof makeRun>[];
	const jobs = [] as ReturnType<typeof makeJob>[];
	await open({
		runs: () => runs,
		jobs: () => jobs,
		train: () => {
			runs.push(makeRun({ run_id: "run_t", job_id: "job_t", status: "running", phase: "train", step: 0, verdict: null, adapter_id: null }));
			jobs.push(makeJob({ id: "job_t", run_id: "run_t" }));
			return { job_id: "job_t", run_id: "run_t" };
		},
		pause_job: () => makeJob({ id: "job_t", state: "running" }),
		resume_job: () => makeJob({ id: "job_t", state: "running" }),
		cancel_job: () => makeJob({ id: "job_t", state: "cancelled" }),
	});
	await waitFor(() => expect(button("Train")).toBeEnabled());
	await user.click(button("Train"));
	expect(await screen.findByRole("button", { name: "Pause" })).toBeEnabled();
	expect(screen.getByText("3 Train")).toHaveAttribute("aria-current", "step");
	transport.announce({ change: "run_metrics", data: { run_id: "run_t", metrics: makeMetrics(0, 20) } });
	await waitFor(() => expect(points(), "20 of training, 2 held out").toBe(22));
	transport.announce({ change: "run_metrics", data: { run_id: "run_t", metrics: makeMetrics(20, 40) } });
	await waitFor(() => expect(points()).toBe(44));
	expect(screen.getByText(/step 40 of 200 · 1,9\d\d tokens\/s · 2 min 8 s left/)).toBeInTheDocument();

	await user.click(button("Pause"));
	expect(transport.inputs("pause_job")).toEqual([{ job_id: "job_t" }]);
	expect(screen.getByText("Pausing at the next step …")).toBeInTheDocument();
	transport.announce({ change: "run_changed", data: { run: makeRun({ run_id: "run_t", job_id: "job_t", status: "paused", step: 40, verdict: null }) } });
	await user.click(await screen.findByRole("button", { name: "Resume" }));
	expect(transport.inputs("resume_job")).toEqual([{ job_id: "job_t" }]);
	transport.announce({ change: "run_changed", data: { run: makeRun({ run_id: "run_t", job_id: "job_t", status: "running", phase: "train", verdict: null }) } });
	await user.click(await screen.findByRole("button", { name: "Cancel" }));
	expect(transport.inputs("cancel_job")).toEqual([{ job_id: "job_t" }]);
});

test("coming back to the view shows the whole curve from the stored metrics", async () => {
	await open({ runs: () => [makeRun({ run_id: "run_c" })], run_metrics: ({ run_id }) => ({ run_id, metrics: makeMetrics(0, 200) }) });
	await waitFor(() => expect(points()).toBe(220));
	await user.click(screen.getByText("Show as a table"));
	expect(await screen.findByRole("columnheader", { name: "held out" })).toBeInTheDocument();
	expect(screen.getAllByRole("row").length).toBeGreaterThan(100);
});

test("a finished training shows whether it is better, and the person decides", async () => {
	let run = makeRun({ run_id: "run_d", adapter_id: "adp_d" });
	let adapter = makeAdapter({ id: "adp_d", state: "trial" });
	await open({
		runs: () => [run],
		adapters: () => [adapter],
		decide: ({ decision }) => {
			run = { ...run, decision };
			adapter = { ...adapter, state: decision === "keep" ? "active" : "trial" };
			return adapter;
		},
	});
	const verdict = await screen.findByRole("group", { name: "Is it better?" });
	expect(verdict).toHaveTextContent("64 % wins 57 to 71 %, 60 pairs");
	expect(verdict).toHaveTextContent("+1.2 %");
	expect(verdict).toHaveTextContent("2.61 → 2.44");
	expect(button("Not now")).toBeInTheDocument();
	await user.click(button("Keep"));
	expect(await screen.findByText("You kept it. New texts are written with it.")).toBeInTheDocument();
	await user.click(button("Undo"));
	expect(await screen.findByText("Undone. New texts are written as before.")).toBeInTheDocument();
	expect(transport.inputs("decide")).toEqual([
		{ run_id: "run_d", decision: "keep" },
		{ run_id: "run_d", decision: "undo" },
	]);
});

test("five pairs are judged blind, and which was which is told at the end", async () => {
	const pairs = [1, 2].map((number) => ({ number, prompt: `Prompt ${number}`, genres: {}, first: `First ${number}`, second: `Second ${number}`, choice: null, trained: null }));
	const test = (answered: number) => ({
		run_id: "run_1",
		pairs: pairs.map((pair) => ({ ...pair, choice: pair.number <= answered ? ("first" as const) : null, trained: answered === 2 ? ("first" as const) : null })),
		result: answered === 2 ? { trained: 2, before: 0, neither: 0 } : null,
		sentence: "",
	});
	await open({ runs: () => [makeRun()], adapters: () => [makeAdapter({ state: "trial" })], blind_test: () => test(0), answer_blind: ({ number }) => test(number) });
	await user.click(await screen.findByRole("button", { name: "Compare blind" }));
	expect(await screen.findByRole("heading", { name: "Pair 1 of 2: which do you like more?" })).toBeInTheDocument();
	expect(screen.queryByText(/was the trained one/)).toBeNull();
	await user.click(button("The first"));
	await screen.findByRole("heading", { name: "Pair 2 of 2: which do you like more?" });
	await user.click(button("The first"));
	expect(await screen.findByText(/the trained one 2 ×/)).toBeInTheDocument();
	expect(transport.inputs("answer_blind")).toEqual([1, 2].map((number) => ({ run_id: "run_1", number, choice: "first" })));
});

test("an earlier taste can be gone back to, and learned anew", async () => {
	const rows = [3, 2].map((version) => ({ version, created_at: AT, summary: { trained: true, thumbs: version, auc: null, confident: false, pinned: false }, current: version === 3 }));
	await open({ taste: () => ({ ...tasteCard, version: 3, summary: { ...tasteCard.summary, pinned: true } }), taste_versions: () => rows, restore_taste: () => tasteCard, train_taste: () => ({ ok: true, model_path: "", vocab_size: 0, auc: null, examples: 3 }) });
	await user.click(await screen.findByText("Earlier versions"));
	await user.click(await screen.findByRole("button", { name: "Go back to version 2" }));
	expect(transport.inputs("restore_taste")).toEqual([{ version: 2 }]);
	await user.click(button("Learn from all thumbs again"));
	await waitFor(() => expect(transport.inputs("train_taste")).toHaveLength(1));
});

test("history tells how each run ended, and an interrupted one can be resumed from its page", async () => {
	await open(
		{
			runs: () => [
				makeRun({ run_id: "run_i", status: "interrupted", step: 88, checkpoint_step: 75, final_loss: null, verdict: null }),
				makeRun({ run_id: "run_f", status: "failed", verdict: null, error: { code: "disk_full", message: "The disk is full.", hint: null }, created_at: "2026-11-20T10:00:00.000Z" }),
			],
			resume_run: () => ({ job_id: "job_2", run_id: "run_i" }),
		},
		"history",
	);
	const rows = screen.getAllByRole("row");
	expect(rows[1]).toHaveTextContent("interrupted");
	expect(rows[1]).toHaveTextContent("Can go on from step 75.");
	expect(rows[2]).toHaveTextContent("The disk is full.");
	route.go("teach", "history", "run_i");
	await user.click(await screen.findByRole("button", { name: "Resume" }));
	expect(transport.inputs("resume_run")).toEqual([{ run_id: "run_i" }]);
});

test("two runs are laid over each other", async () => {
	await open({ runs: () => [makeRun({ run_id: "run_x" }), makeRun({ run_id: "run_y" })], run_metrics: ({ run_id }) => ({ run_id, metrics: makeMetrics(0, 50) }) }, "compare");
	const boxes = screen.getAllByRole("checkbox");
	await user.click(boxes[0] as HTMLElement);
	expect(screen.queryByTestId("loss-chart"), "one is no comparison").toBeNull();
	await user.click(boxes[1] as HTMLElement);
	await waitFor(() => expect(points()).toBe(100));
	await user.click(button("held out"));
	await waitFor(() => expect(points()).toBe(10));
});

test("the queue says what runs, how far, and why something failed", async () => {
	transport = new ScriptedTransport({
		jobs: () => [makeJob({ progress: 0.42 }), makeJob({ id: "job_f", state: "failed", title: "Old training", error: { code: "disk_full", message: "The disk is full.", hint: "Free some space.", detail: [] }, created_at: "2026-11-20T10:00:00.000Z" })],
		pause_job: () => makeJob({ state: "paused" }),
	});
	render(Activity);
	expect(await screen.findByRole("progressbar")).toHaveAttribute("aria-valuenow", "42");
	expect(screen.getByText("The disk is full.")).toBeInTheDocument();
	await user.click(button("Pause"));
	expect(await screen.findByRole("heading", { name: "Can go on" })).toBeInTheDocument();
});

test("a search is shown while it runs: the default first, then the best, with what was dropped", async () => {
	const searching = makeRun({ status: "running", phase: "search", step: 0, verdict: null, search: makeSearch().plan });
	await open({ runs: () => [searching], jobs: () => [makeJob({ state: "running" })], run_search: () => makeSearch() });
	const table = await screen.findByRole("table", { name: "" });
	const heads = () => within(table).getAllByRole("rowheader").map((cell) => cell.textContent.replace(/\s+/g, " ").trim());
	expect(heads().slice(0, 3)).toEqual(["Soft prompt default · 16 vectors", "LoRA rank 8, all modules", "LoRA rank 32, all modules · Dropout 0.05"]);
	expect(screen.getByText("7 of 7 tried · 47 s of 10 min 0 s")).toBeInTheDocument();
	expect(heads()).toHaveLength(6);
	await user.click(button("Show 1 more"));
	expect(heads()).toHaveLength(7);
	expect(within(table).getByRole("cell", { name: "failed" })).toHaveAttribute("title", "The loss became NaN.");
	expect(within(table).getByText("2.990")).toBeInTheDocument();
	const found = { winner: 5, default_loss: 3.11, best_loss: 2.99, out_of_time: false, reason: "Of 6 other settings the best is a LoRA of rank 8." };
	transport.announce({ change: "search_changed", data: { search: makeSearch({ found }) } });
	expect(await screen.findByText(found.reason)).toBeInTheDocument();
});

test("a training without a search says that none was asked for", async () => {
	await open({ runs: () => [makeRun()] });
	expect(await screen.findByText("2 No search asked for")).toBeInTheDocument();
});

test("what only some need is under Advanced; a fault in it opens it; a search is one switch", async () => {
	const planned: unknown[] = [];
	await open({
		plan_training: (request) => {
			planned.push(request);
			if (request.hyperparameters?.dropout === 5) throw new Failure({ code: "invalid_input", message: "A figure.", detail: [{ field: "hyperparameters.dropout", message: "dropout is 5; it must be 0 to 0.9." }] });
			return { ...plan, recipe: request.recipe, search: request.search?.minutes ? { budget_seconds: 60 * request.search.minutes, axes: ["rank"] } : null };
		},
	});
	await user.click(await screen.findByRole("button", { name: "Change" }));
	await user.click(button("LoRA"));
	const section = screen.getByText("Advanced").closest("details");
	expect(section).not.toHaveAttribute("open");
	await user.click(screen.getByText("Advanced"));
	for (const name of ["k", "o", "gate", "up", "down"]) await user.click(button(name));
	await user.click(button("16 bits"));
	await waitFor(() => expect(planned.at(-1)).toMatchObject({ hyperparameters: { quantization: "bf16" } }));
	await user.click(button("4 bits"));
	await user.click(button("evenly"));
	await waitFor(() => expect(planned.at(-1)).toMatchObject({ recipe: "lora", hyperparameters: { target_modules: ["q_proj", "v_proj"], quantization: "int4", schedule: "linear" } }));
	await user.click(screen.getByRole("switch", { name: "Search for better settings first" }));
	await waitFor(() => expect(planned.at(-1)).toMatchObject({ search: { minutes: 10 } }));
	expect(await screen.findByText(/a search of up to 10 min/)).toBeInTheDocument();
	await user.type(screen.getByRole("textbox", { name: /Dropout/ }), "5");
	expect(await screen.findByText(/must be 0 to 0.9/)).toBeInTheDocument();
	expect(button("Train")).toBeDisabled();
});
