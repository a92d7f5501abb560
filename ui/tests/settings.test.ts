import { cleanup, render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test, vi } from "vitest";
import type { SettingDescription } from "../src/api/bindings";
import { Failure } from "../src/api/errors";
import Field from "../src/components/Field.svelte";
import { settings } from "../src/stores/settings.svelte";
import Settings from "../src/views/Settings/Settings.svelte";
import { descriptions } from "./fixtures";
import { ScriptedTransport } from "./scripted";

const user = userEvent.setup();
const named = (key: string) => descriptions.find((one) => one.key === key) as SettingDescription;
const outOfRange = new Failure({ code: "invalid_input", message: "One field.", detail: [{ field: "candidates", message: "Candidates is 99; it must be 1 to 16." }] });

afterEach(() => {
	cleanup();
	settings.view = null;
});

test("every kind of setting is drawn as its description says, with its name and sentence", () => {
	const oncommit = vi.fn();
	render(Field, { description: named("explore"), value: true, oncommit });
	expect(screen.getByRole("switch", { name: "Ask for comparisons" })).toBeChecked();
	render(Field, { description: named("theme"), value: "dark", oncommit });
	expect(screen.getByRole("combobox", { name: "Colours" })).toHaveDisplayValue("Dark");
	render(Field, { description: named("temperature"), value: 0.8, oncommit });
	expect(screen.getByRole("textbox", { name: "Creativity" })).toHaveAccessibleDescription(/Low is predictable/);
	expect(screen.getByText("0 to 2")).toBeInTheDocument();
	render(Field, { description: named("softPromptModelDir"), value: "", oncommit });
	expect(screen.getByRole("textbox", { name: "Soft-prompt folder" })).toHaveValue("");
});

test("a number is sent as a number, what is none as it was typed, and a default is one click away", async () => {
	const ontype = vi.fn();
	const oncommit = vi.fn();
	render(Field, { description: named("candidates"), value: 6, ontype, oncommit });
	const field = screen.getByRole("textbox", { name: "Candidates" });
	await user.clear(field);
	await user.type(field, "8x");
	expect(ontype.mock.calls.map(([value]: unknown[]) => value)).toEqual(["", 8, "8x"]);
	await user.click(screen.getByRole("button", { name: "Back to 4" }));
	expect(oncommit).toHaveBeenLastCalledWith(4);
});

test("a fault is shown at its field while it is typed, and nothing is saved", async () => {
	const transport = new ScriptedTransport({
		check_settings: (update) => {
			if (update.candidates === 99) throw outOfRange;
			return {} as never;
		},
		update_settings: () => {
			throw outOfRange;
		},
	});
	render(Settings);
	const field = await screen.findByRole("textbox", { name: "Candidates" });
	await user.clear(field);
	await user.type(field, "99");
	expect(await screen.findByText("Candidates is 99; it must be 1 to 16.")).toBeInTheDocument();
	expect(field).toHaveAttribute("aria-invalid", "true");
	expect(transport.inputs("update_settings")).toEqual([]);
	await user.clear(field);
	await user.type(field, "9");
	await waitFor(() => expect(screen.queryByText(/must be 1 to 16/)).toBeNull());
});

test("a change is saved at once and says so", async () => {
	const transport = new ScriptedTransport();
	render(Settings);
	await user.selectOptions(await screen.findByRole("combobox", { name: "Colours" }), "Dark");
	await waitFor(() => expect(transport.inputs("update_settings")).toEqual([{ theme: "dark" }]));
	expect(settings.current?.theme).toBe("dark");
	expect(await screen.findByText("Saved")).toBeInTheDocument();
});

test("settings are found by words, and the doctor says which addresses may be contacted", async () => {
	new ScriptedTransport();
	render(Settings);
	expect(await screen.findByText(/huggingface.co .downloads that you start./)).toBeInTheDocument();
	await user.type(screen.getByRole("searchbox", { name: "Search settings" }), "learning rate");
	expect(screen.getByRole("textbox", { name: "Learning rate" })).toBeInTheDocument();
	expect(screen.queryByRole("textbox", { name: "Candidates" })).toBeNull();
	await user.type(screen.getByRole("searchbox", { name: "Search settings" }), " of the moon");
	expect(screen.getByText(/No setting matches/)).toBeInTheDocument();
});

test("the data folder is moved to the folder that was typed", async () => {
	const transport = new ScriptedTransport({ move_data_folder: () => { throw new Failure({ code: "invalid_input", message: "The folder is not empty.", hint: "Choose an empty one." }); } });
	render(Settings);
	await user.click(await screen.findByRole("button", { name: "Move" }));
	await user.click(screen.getByRole("button", { name: "Go on" }));
	expect(screen.getByRole("alert")).toHaveTextContent("full path");
	await user.type(screen.getByRole("textbox", { name: "Folder on this machine" }), "/data/ink");
	await user.click(screen.getByRole("button", { name: "Go on" }));
	await waitFor(() => expect(screen.getByRole("alert")).toHaveTextContent("The folder is not empty. Choose an empty one."));
	expect(transport.inputs("move_data_folder")).toEqual([{ path: "/data/ink" }]);
});
