import { cleanup, render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";
import { Failure } from "../src/api/errors";
import { autoTrain } from "../src/stores/autoTrain.svelte";
import { startEvents } from "../src/stores/events";
import { messages } from "../src/stores/messages.svelte";
import { route } from "../src/stores/route.svelte";
import { work } from "../src/stores/work.svelte";
import Teach from "../src/views/Teach/Teach.svelte";
import { makeAttempt, makeAutoResult, makeExample, makeSession, makeStats } from "./fixtures";
import { ScriptedTransport } from "./scripted";

vi.mock("uplot", () => ({ default: Object.assign(vi.fn(), { join: () => [[]] }) }));

const user = userEvent.setup();
const button = (name: string | RegExp) => screen.getByRole("button", { name });
let transport: ScriptedTransport;

async function open(answers: ConstructorParameters<typeof ScriptedTransport>[0] = {}): Promise<void> {
	transport = new ScriptedTransport(answers);
	startEvents(() => undefined);
	messages.toasts = [];
	route.go("teach", "auto");
	render(Teach);
	await Promise.all([work.load(), autoTrain.load()]);
}

/** A backend with one session that has tried so many. */
function withSession(current: number, change: Parameters<typeof makeSession>[1] = {}) {
	const session = makeSession(current, change);
	const attempts = Array.from({ length: current }, (_, position) => makeAttempt(position));
	return {
		auto_trains: () => [session],
		auto_train_attempts: () => attempts,
		auto_train_result: () => makeAutoResult(session),
		examples: () => attempts.filter(({ example_id }) => example_id).map((attempt) => makeExample(attempt)),
	};
}

afterEach(cleanup);

test("what is asked for is what was chosen, and a wrong number is said before it is sent", async () => {
	await open({ auto_train: () => makeSession(0, { id: "auto_2", state: "queued" }) });
	expect(await screen.findByText("No examples yet")).toBeInTheDocument();
	const count = screen.getByRole("textbox", { name: /How many/ });
	await user.clear(count);
	await user.type(count, "501");
	expect(screen.getByText("Type a whole number from 1 to 500.")).toBeInTheDocument();
	expect(button("Start writing")).toBeDisabled();
	await user.clear(count);
	await user.type(count, "12");
	await user.click(button("fantasy"));
	await user.click(button("sci-fi"));
	await user.click(screen.getByRole("switch", { name: "Also remember them" }));
	await user.click(button("Start writing"));
	expect(transport.inputs("auto_train")).toEqual([{ num_examples: 12, genres: ["fantasy", "sci_fi"], styles: [], store_in_memory: true }]);
	await waitFor(() => expect(button("Start writing")).toBeDisabled());
});

test("what the backend refuses stands in the form", async () => {
	await open({
		auto_train: () => {
			throw new Failure({ code: "invalid_input", message: "\"western\" is not a genre I know.", hint: "Genres are: fantasy." });
		},
	});
	await user.click(button("Start writing"));
	expect(await screen.findByText(/is not a genre I know/)).toBeInTheDocument();
});

test("examples appear as they are written, with their quality or why they were not kept", async () => {
	await open(withSession(3));
	expect(await screen.findByText(/3 of 50 tried/)).toBeInTheDocument();
	for (const current of [4, 5]) transport.announce({ change: "auto_train_changed", data: { auto_train: makeSession(current) } });
	expect(await screen.findByText(/5 of 50 tried · .* left/)).toBeInTheDocument();
	expect(await screen.findByText("not kept: off the prompt")).toBeInTheDocument();
	await user.click(button("Cancel"));
	expect(transport.inputs("cancel_job")).toEqual([{ job_id: "job_auto_1" }]);
});

test("a halted session can go on", async () => {
	await open({ ...withSession(7, { state: "interrupted" }), resume_job: () => ({ id: "job_auto_1" }) as never });
	await user.click(await screen.findByRole("button", { name: "Resume" }));
	expect(transport.inputs("resume_job")).toEqual([{ job_id: "job_auto_1" }]);
});

test("the results say how many, how good and of which genre, and each example can be read, changed and dropped", async () => {
	const examples = new Map<string, ReturnType<typeof makeExample>>();
	const session = withSession(12, { state: "completed" });
	for (const example of session.examples()) examples.set(example.id, example);
	await open({
		...session,
		drop_example: ({ example_id }) => ({ ...(examples.get(example_id) as never as object), dropped: true }) as never,
		edit_example: ({ example_id, text }) => ({ ...(examples.get(example_id) as never as object), text, edited: true }) as never,
	});
	expect(await screen.findByText("83 % of those tried")).toBeInTheDocument();
	expect(await screen.findByRole("rowheader", { name: "Dark fantasy" })).toBeInTheDocument();
	expect(screen.getByText("kept from 7.0")).toBeInTheDocument();
	expect(screen.getByText(/^Not kept:/)).toHaveTextContent("off the prompt");
	await user.click(screen.getAllByText(/A small dragon wants/)[0] as HTMLElement);
	await user.click(screen.getAllByRole("button", { name: "Edit" })[0] as HTMLElement);
	const box = screen.getByRole("textbox", { name: "Your version" });
	await user.clear(box);
	await user.type(box, "My own words.");
	await user.click(button("Save"));
	expect(await screen.findByText("My own words.")).toBeInTheDocument();
	expect(transport.inputs("edit_example")).toEqual([{ example_id: "ex_0", text: "My own words." }]);
	await user.click(screen.getAllByRole("button", { name: "Drop" })[0] as HTMLElement);
	expect(await screen.findByRole("button", { name: "Take back" })).toBeInTheDocument();
});

test("enough examples are said on every screen, with the training one click away", async () => {
	await open({ ...withSession(3, { state: "completed" }), training_stats: () => makeStats({ new_examples: 50, examples_until_next_training: 0, ready_for_finetuning: true }), train_personal: () => ({ job_id: "job_9", run_id: "run_9" }) });
	expect(await screen.findByText(/50 are new: enough for a training/)).toBeInTheDocument();
	transport.announce({ change: "examples_ready", data: { user_id: "me", new_examples: 50, automatic: false } });
	const toast = messages.toasts.find(({ text }) => text.startsWith("50 new examples"));
	expect(toast?.action?.label).toBe("Train now");
	toast?.action?.run();
	await waitFor(() => expect(transport.inputs("train_personal")).toEqual([{ user_id: "me" }]));
	await waitFor(() => expect(route.rest).toEqual([]));
});
