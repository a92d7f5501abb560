import { cleanup, render, screen, waitFor, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { afterEach, expect, test } from "vitest";
import { Failure } from "../src/api/errors";
import { library } from "../src/stores/library.svelte";
import { settings } from "../src/stores/settings.svelte";
import { work } from "../src/stores/work.svelte";
import Library from "../src/views/Library/Library.svelte";
import MemberKey from "../src/views/Settings/MemberKey.svelte";
import Desk from "../src/views/Write/Desk.svelte";
import { base, makeJob, smallBase } from "./fixtures";
import { ScriptedTransport } from "./scripted";

const user = userEvent.setup();
const nothing = () => undefined;

afterEach(() => {
	cleanup();
	library.bases = [];
	library.catalogue = [];
	library.progress = {};
	library.loaded = false;
	work.jobs = [];
	settings.view = null;
});

test("a base shows what it is and costs, becomes the default, and is removed after a question", async () => {
	const backend = new ScriptedTransport({ bases: () => [base, smallBase], remove_base: () => ({ ok: true, files_deleted: true, adapters: [] }) });
	render(Library);
	const card = await screen.findByRole("article", { name: /SmolLM2-135M-Instruct/ });
	expect(card).toHaveTextContent(/135M parameters|134\.5M parameters/);
	expect(card).toHaveTextContent("38 tokens/s here");
	expect(card).toHaveTextContent("apache-2.0");
	await user.click(within(card).getByRole("button", { name: /Write with it/ }));
	expect(backend.inputs("update_settings")).toEqual([{ defaultBase: smallBase.id }]);
	await user.click(within(card).getByRole("button", { name: /^Remove/ }));
	expect(backend.inputs("remove_base")).toEqual([]);
	await user.click(within(card).getByRole("button", { name: "Remove" }));
	await waitFor(() => expect(backend.inputs("remove_base")).toEqual([{ base_id: smallBase.id, anyway: false }]));
	expect(screen.queryByRole("button", { name: /Remove: Inkling Story/ })).toBeNull();
});

test("a removal that would strand adapters names them and asks once more", async () => {
	const conflict = new Failure({ code: "conflict", message: "These adapters were trained on it: Warm endings." });
	const backend = new ScriptedTransport({
		bases: () => [base, smallBase],
		remove_base: ({ anyway }) => {
			if (!anyway) throw conflict;
			return { ok: true, files_deleted: true, adapters: ["ad_1"] };
		},
	});
	render(Library);
	await user.click(await screen.findByRole("button", { name: "Remove: SmolLM2-135M-Instruct" }));
	await user.click(screen.getByRole("button", { name: "Remove" }));
	expect(await screen.findByText(/Warm endings/)).toBeInTheDocument();
	await user.click(screen.getByRole("button", { name: "Remove anyway" }));
	await waitFor(() => expect(backend.inputs("remove_base")).toHaveLength(2));
});

test("a download shows how far it is and how long still, and can be stopped", async () => {
	const job = makeJob({ id: "job_pull", kind: "pull", state: "running", title: "Download Qwen/Qwen2.5-0.5B-Instruct", progress: 0.2 });
	const backend = new ScriptedTransport({ jobs: () => [job], cancel_job: () => ({ ...job, state: "cancelled" }), pull_base: () => ({ job_id: "job_2", repo: "HuggingFaceTB/SmolLM2-360M" }) });
	await work.load();
	render(Library);
	const offer = await screen.findByRole("article", { name: "Qwen2.5 0.5B Instruct" });
	expect(within(offer).getByRole("status")).toHaveTextContent("Asking what is there");
	library.progress = { job_pull: { job_id: "job_pull", repo: "Qwen/Qwen2.5-0.5B-Instruct", doing: "model.safetensors", bytes: 400 * 2 ** 20, total_bytes: 800 * 2 ** 20, bytes_per_second: 8 * 2 ** 20, eta_s: 50 } };
	await waitFor(() => expect(within(offer).getByRole("status")).toHaveTextContent("400 MB of 800 MB · 8 MB/s · 50 s left"));
	expect(within(offer).getByRole("progressbar")).toHaveAttribute("aria-valuenow", "50");
	await user.click(within(offer).getByRole("button", { name: "Cancel" }));
	expect(backend.inputs("cancel_job")).toEqual([{ job_id: "job_pull" }]);
	const other = screen.getByRole("article", { name: "SmolLM2 360M" });
	await user.click(within(other).getByRole("button", { name: /^Download SmolLM2 360M/ }));
	expect(backend.inputs("pull_base")).toEqual([{ model: "smollm2-360m" }]);
	const large = screen.getByRole("article", { name: /Phi-3/ });
	expect(large).toHaveTextContent("needs about 2.8 GB of memory");
	expect(within(large).queryByRole("button")).toBeNull();
});

test("the base is named at the Write button once there is more than one", async () => {
	new ScriptedTransport();
	library.bases = [base];
	const { unmount } = render(Desk, { prompt: undefined, onwrite: nothing, onhistory: nothing });
	expect(screen.queryByRole("button", { name: "Base: Inkling Story" })).toBeNull();
	unmount();
	library.bases = [base, smallBase];
	render(Desk, { prompt: undefined, onwrite: nothing, onhistory: nothing });
	await user.click(screen.getByRole("button", { name: "Base: Inkling Story" }));
	expect(await screen.findByRole("combobox", { name: "Base" })).toBeInTheDocument();
});

test("the key of a server goes out once and is never shown", async () => {
	const backend = new ScriptedTransport({
		member: () => ({ host: "api.example.org", model: "writer-1", key_set: false, inside: false }),
		set_member_key: ({ key }) => ({ host: "api.example.org", model: "writer-1", key_set: key !== "", inside: false }),
	});
	render(MemberKey);
	expect(await screen.findByText(/sent to api.example.org/)).toBeInTheDocument();
	const field = screen.getByLabelText("Key of that server");
	expect(field).toHaveAttribute("type", "password");
	await user.type(field, "sk-secret");
	await user.click(screen.getByRole("button", { name: "Keep" }));
	expect(backend.inputs("set_member_key")).toEqual([{ key: "sk-secret" }]);
	await waitFor(() => expect(field).toHaveValue(""));
	expect(await screen.findByText("A key is kept.")).toBeInTheDocument();
});
