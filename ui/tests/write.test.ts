import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GENRES } from "../src/api/bindings";
import type { WriteEvent } from "../src/api/bindings";
import { Failure } from "../src/api/errors";
import App from "../src/App.svelte";
import { app } from "../src/stores/app.svelte";
import { messages } from "../src/stores/messages.svelte";
import { form, SAVE_AFTER_MS } from "../src/views/Write/form.svelte";
import { paragraphs, session } from "../src/views/Write/session.svelte";
import { makeResult, noTaste, settings, status } from "./fixtures";
import { ScriptedTransport } from "./scripted";

const started: WriteEvent = { event: "started", generation_id: "gen_1", n: 2, seed: 7, notices: [{ code: "prompt_cut", message: "The prompt was cut." }] };
const token = (index: number, text: string): WriteEvent => ({ event: "token", index, text });
const user = userEvent.setup();
let transport: ScriptedTransport;

async function open(answers: ConstructorParameters<typeof ScriptedTransport>[0] = {}): Promise<void> {
	transport = new ScriptedTransport(answers);
	const { container } = render(App);
	await waitFor(() => expect(container.querySelector('[data-ready="true"]')).not.toBeNull());
	await waitFor(() => expect(form.restored).toBe(true));
}

beforeEach(() => {
	location.hash = "#/write";
	Object.assign(session, { state: "idle", result: null, request: null, failure: null, notices: [], pairOpen: false, selected: 0 });
	app.status = null;
	app.taste = null;
	form.restored = false;
	form.take({ prompt: "" });
	messages.toasts = [];
});
afterEach(cleanup);

const prompt = () => screen.getByRole("textbox", { name: "Prompt" });
const button = (name: string) => screen.getByRole("button", { name });
const sheet = () => screen.getByTestId("sheet");

async function writeSomething(...texts: string[]): Promise<void> {
	await user.type(prompt(), "A young wizard");
	await user.click(button("Write"));
	transport.stream(started, token(0, texts[0] ?? ""), { event: "chosen", result: makeResult(texts) });
	await waitFor(() => expect(sheet()).toHaveAttribute("data-state", "done"));
}

test("a person types, slides, writes, watches the text grow and sees the winner with its reasons", async () => {
	await open();
	expect(sheet()).toHaveAttribute("data-state", "idle");
	await user.type(prompt(), "A young wizard");
	const fantasy = screen.getByRole("slider", { name: "Fantasy" });
	Object.assign(fantasy, { value: "70" }).dispatchEvent(new window.Event("input", { bubbles: true }));
	await user.click(button("twist"));
	await user.keyboard("{Control>}{Enter}{/Control}");
	expect(transport.requests).toEqual([{ prompt: "A young wizard", genres: { fantasy: 70 }, style: "twist" }]);
	expect(button("Write")).toBeDisabled();

	transport.stream(started, token(0, "The book was "), token(1, "Once upon "), token(0, "warm."));
	await waitFor(() => expect(sheet()).toHaveTextContent("The book was warm."));
	expect(sheet()).toHaveAttribute("data-state", "writing");
	expect(sheet()).toHaveTextContent("The prompt was cut.");
	await user.click(screen.getByRole("tab", { name: "Draft 2" }));
	expect(sheet()).toHaveTextContent("Once upon");

	const result = makeResult(["Once upon a time.", "The book was warm."], { notices: [] });
	transport.stream({ event: "chosen", result });
	await waitFor(() => expect(sheet()).toHaveAttribute("data-state", "done"));
	expect(screen.getAllByRole("tab").map(({ textContent }) => textContent)).toEqual(["Chosen8.4", "Second7.8"]);
	expect(screen.getByRole("tab", { selected: true })).toHaveTextContent("Chosen");
	expect(sheet()).toHaveTextContent("Once upon a time.");
	expect(screen.getByRole("meter", { name: "Your taste" })).toHaveAttribute("aria-valuenow", "82");
	expect(screen.getByRole("meter", { name: "Quality" })).toHaveAttribute("aria-valuetext", "8.8 of 10");
});

test("candidates are switched with the arrow keys", async () => {
	await open();
	await writeSomething("One.", "Two.");
	screen.getByRole("tab", { selected: true }).focus();
	await user.keyboard("{ArrowRight}");
	expect(screen.getByRole("tab", { selected: true })).toHaveTextContent("Second");
	expect(screen.getByRole("tab", { selected: true })).toHaveFocus();
	expect(sheet()).toHaveTextContent("Two.");
});

test("Escape stops, and what was written is kept", async () => {
	await open();
	await user.type(prompt(), "A young wizard");
	await user.click(button("Write"));
	transport.stream(started, token(0, "The book"));
	await user.keyboard("{Escape}");
	expect(transport.signal?.aborted).toBe(true);
	transport.stream({ event: "chosen", result: makeResult(["The book"]) });
	await waitFor(() => expect(sheet()).toHaveTextContent("The book"));
});

test("a thumb is stored at once, a second one changes it, tags follow as one verdict", async () => {
	await open();
	await writeSomething("One.", "Two.");
	await user.keyboard("{Alt>}{ArrowUp}{/Alt}");
	await waitFor(() => expect(button("More like this")).toHaveAttribute("aria-pressed", "true"));
	expect(transport.inputs("feedback")).toEqual([{ candidate_id: "cnd_1", verdict: 1, tags: [] }]);
	expect(screen.getByText(/Learned from 12 thumbs/)).toBeInTheDocument();
	await user.click(button("funny"));
	await user.click(button("moving"));
	await waitFor(() => expect(transport.inputs("feedback")).toHaveLength(2), { timeout: 2000 });
	expect(transport.inputs("feedback")[1]).toEqual({ candidate_id: "cnd_1", verdict: 1, tags: ["funny", "moving"] });
	await user.click(button("Less like this"));
	await waitFor(() => expect(button("Less like this")).toHaveAttribute("aria-pressed", "true"));
	expect(transport.inputs("feedback").at(-1), "tags of the other thumb no longer hold").toEqual({ candidate_id: "cnd_1", verdict: -1, tags: [] });
	expect(button("More like this")).toHaveAttribute("aria-pressed", "false");
});

test("an edit that is saved is feedback; one that is cancelled is nothing", async () => {
	await open();
	await writeSomething("One.");
	await user.click(button("Edit"));
	await user.type(screen.getByRole("textbox", { name: "Your version" }), " And more.");
	await user.click(button("Cancel"));
	expect(sheet()).not.toHaveTextContent("And more.");
	await user.click(button("Edit"));
	await user.type(screen.getByRole("textbox", { name: "Your version" }), " And more.");
	await user.click(button("Save"));
	await waitFor(() => expect(sheet()).toHaveTextContent("One. And more."));
	expect(transport.inputs("feedback")).toEqual([{ candidate_id: "cnd_1", tags: [], edited_text: "One. And more." }]);
});

test("Continue goes on from the open candidate, Again draws a fresh seed", async () => {
	await open();
	await writeSomething("One.", "Two.");
	await user.click(screen.getByRole("tab", { name: /Second/ }));
	await user.click(button("Continue"));
	expect(transport.requests[1]).toMatchObject({ prompt: "A young wizard", continue_from: "cnd_2", seed: null });
	transport.stream(started);
	await waitFor(() => expect(sheet(), "what was there stands at once").toHaveTextContent("Two."));
	transport.stream({ event: "chosen", result: makeResult(["Two. Three."]) });
	await waitFor(() => expect(sheet()).toHaveTextContent("Two. Three."));
	await user.click(button("Again"));
	expect(transport.requests[2]).toMatchObject({ prompt: "A young wizard", seed: null });
});

test("an error comes back inline with its hint, and the text from before is still there", async () => {
	await open();
	await writeSomething("One.");
	await user.click(button("Write"));
	transport.refuse(new Failure({ code: "out_of_memory", message: "Only 1.2 GB of memory is free.", hint: "Close other programs." }));
	expect(await screen.findByRole("alert")).toHaveTextContent("Only 1.2 GB of memory is free. Close other programs.");
	expect(sheet()).toHaveTextContent("One.");
	expect(button("Write")).toBeEnabled();
});

test("nothing is sent without a prompt, or with all sliders at zero", async () => {
	await open();
	await user.click(button("Write"));
	expect(screen.getByRole("alert")).toHaveTextContent("Type a line first");
	expect(prompt()).toHaveFocus();
	await user.type(prompt(), "A young wizard");
	await user.click(screen.getByRole("switch", { name: "Any genre" }));
	await user.click(button("Write"));
	expect(screen.getByRole("alert")).toHaveTextContent("All sliders are at zero.");
	expect(transport.requests).toEqual([]);
});

test("the sample prompt is one click away, and text is two", async () => {
	await open();
	await user.click(button("Try a sample"));
	expect(prompt()).toHaveValue("A young wizard discovers an ancient spellbook");
	await user.click(button("Write"));
	expect(transport.requests).toHaveLength(1);
});

test("a draft is restored at start and saved as it changes", async () => {
	await open({ draft: () => ({ json: JSON.stringify({ prompt: "Half a sentence", any: false, genres: { horror: 40, nonsense: 3 }, style: "gone", n: 6 }) }) });
	expect(prompt()).toHaveValue("Half a sentence");
	expect(screen.getByRole("slider", { name: "Horror" })).toHaveValue("40");
	await user.type(prompt(), " more");
	await waitFor(() => expect(transport.inputs("save_draft").length).toBeGreaterThan(0), { timeout: SAVE_AFTER_MS + 1000 });
	const saved = JSON.parse((transport.inputs("save_draft").at(-1) as { json: string }).json) as Record<string, unknown>;
	expect(saved).toMatchObject({ prompt: "Half a sentence more", style: null, n: 6 });
	expect(Object.keys(saved.genres as object).sort(), "only genres that exist").toEqual(GENRES.map(({ name }) => name).sort());
});

test("history is searched, opened, and a deleted text comes back with Undo", async () => {
	const items = [{ generation_id: "gen_9", created_at: "2026-11-20T10:00:00.000Z", prompt: "The mill", genres: {}, style: null, opening: "The mill sang.", verdict: 1, candidates: 4 }];
	await open({
		generations: () => ({ items, next: null }),
		generation: () => ({ created_at: "2026-11-20T10:00:00.000Z", request: { prompt: "The mill" }, result: makeResult(["The mill sang all night."], { generation_id: "gen_9" }) }),
		remove_generation: () => ({ ok: true }),
		restore_generation: () => ({ ok: true }),
	});
	await user.click(button("History"));
	await user.click(await screen.findByText("The mill sang."));
	await waitFor(() => expect(sheet()).toHaveTextContent("The mill sang all night."));
	await user.type(screen.getByRole("searchbox"), "mill");
	await waitFor(() => expect(transport.inputs("generations").at(-1)).toEqual({ limit: 40, search: "mill" }));
	await user.click(button("Delete: The mill sang."));
	const question = screen.getByRole("group", { name: "Delete this text?" });
	await user.click(within(question).getByRole("button", { name: "Delete" }));
	await waitFor(() => expect(sheet()).toHaveAttribute("data-state", "idle"));
	await user.click(button("Undo"));
	expect(transport.inputs("restore_generation")).toEqual([{ generation_id: "gen_9" }]);
});

test("the pair that taste would learn most from is offered, and answered as one comparison", async () => {
	await open({ prefer: () => ({ preference_id: "pref_1", taste: status.taste }) });
	await user.type(prompt(), "A young wizard");
	await user.click(button("Write"));
	transport.stream(started, { event: "chosen", result: makeResult(["One.", "Two."], { explore_pair: ["cnd_1", "cnd_2"] }) });
	const pair = await screen.findByRole("region", { name: "Which of these two do you like more?" });
	await user.click(within(pair).getAllByRole("button", { name: "I prefer this one" })[1] as HTMLElement);
	await waitFor(() => expect(transport.inputs("prefer")).toEqual([{ better: "cnd_2", worse: "cnd_1" }]));
	expect(transport.inputs("feedback"), "a comparison is not two thumbs").toEqual([]);
	expect(screen.queryByRole("region", { name: /Which of these two/ })).toBeNull();
});

test("a low-scored answer is tried again in sight, and the vote's weights can be moved", async () => {
	await open({ update_settings: (update) => ({ ...settings, ...update }) });
	await user.type(prompt(), "A young wizard");
	await user.click(button("Write"));
	transport.stream(started, { event: "token", index: 0, text: "Bad." }, { event: "retrying", member: "story · calmer", n: 1 }, { event: "token", index: 2, text: "Better." });
	expect(await screen.findByText("The best text has a low score; story · calmer writes one more.")).toBeInTheDocument();
	expect(sheet()).toHaveTextContent("Better.");
	transport.stream({ event: "chosen", result: makeResult(["Better.", "Bad.", "Two."]) });
	await user.click(await screen.findByText("How the vote is weighed"));
	const slider = screen.getAllByRole("slider", { name: "Your taste" }).at(-1) as HTMLInputElement;
	await fireEvent.input(slider, { target: { value: "5" } });
	await fireEvent.change(slider, { target: { value: "5" } });
	await waitFor(() => expect(transport.inputs("update_settings")).toEqual([{ weightTaste: 5 }]));
});

test("without a taste the bar says so", async () => {
	await open({ status: () => ({ ...status, taste: noTaste }) });
	await user.type(prompt(), "A young wizard");
	await user.click(button("Write"));
	const result = makeResult(["One."]);
	for (const { scores } of result.candidates) scores.taste = null;
	transport.stream(started, { event: "chosen", result });
	expect(await screen.findByRole("meter", { name: "No taste yet" })).toHaveAttribute("aria-valuetext", "not known");
});

test("a story is exported as a file", async () => {
	await open({ export_candidate: () => ({ file_name: "a-young-wizard.md", text: "# A young wizard" }) });
	await writeSomething("One.");
	await user.click(button("Export"));
	await user.click(screen.getByRole("menuitem", { name: "Markdown (.md)" }));
	await waitFor(() => expect(transport.saved).toEqual([{ fileName: "a-young-wizard.md", text: "# A young wizard" }]));
});

test("views are reached with Ctrl and a figure", async () => {
	await open();
	await user.keyboard("{Control>}5{/Control}");
	expect(await screen.findByRole("heading", { name: "Settings", level: 1 })).toBeInTheDocument();
	expect(screen.getByRole("link", { name: "Settings" })).toHaveAttribute("aria-current", "page");
	await user.keyboard("{Control>}1{/Control}");
	expect(await screen.findByRole("textbox", { name: "Prompt" })).toBeInTheDocument();
});

test("when the backend cannot be reached at start, the page says why and offers to try again", async () => {
	let down = true;
	transport = new ScriptedTransport({
		status: () => {
			if (down) throw new Failure({ code: "busy", message: "Another program holds the data folder.", hint: "Close it." });
			return status;
		},
	});
	render(App);
	expect(await screen.findByRole("alert")).toHaveTextContent("Another program holds the data folder.");
	down = false;
	await user.click(button("Try again"));
	await waitFor(() => expect(prompt()).toBeInTheDocument());
});

test("what a Continue started from is told apart, counted in characters and not in code units", () => {
	expect(paragraphs("😀 a\n\nb c", 6)).toEqual([
		{ old: "😀 a", fresh: "" },
		{ old: "b", fresh: " c" },
	]);
	expect(paragraphs("\n\n", 0)).toEqual([]);
	vi.clearAllTimers();
});
