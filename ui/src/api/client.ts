import type { Calls, Event, WriteEvent, WriteRequest } from "./bindings";
import { toFailure } from "./errors";
import type { CallName, LinkState, Transport } from "./transport";

/** The one client. Views and stores call these functions and never see which transport carries them. */
export async function call<N extends CallName>(name: N, ...[input]: CallInput<N>): Promise<Calls[N]["output"]> {
	try {
		return await transport().call(name, (input ?? {}) as Calls[N]["input"]);
	} catch (thrown) {
		throw toFailure(thrown);
	}
}

export async function write(request: WriteRequest, onEvent: (event: WriteEvent) => void, signal?: AbortSignal): Promise<void> {
	try {
		await transport().write(request, onEvent, signal);
	} catch (thrown) {
		throw toFailure(thrown);
	}
}

export function subscribe(onEvent: (event: Event) => void, onState: (state: LinkState) => void): () => void {
	return transport().subscribe(onEvent, onState);
}

export const saveText = (fileName: string, text: string) => transport().saveText(fileName, text);
export const saveBytes = (fileName: string, base64: string, mime: string) => transport().saveBytes(fileName, base64, mime);
/** `undefined` where folders cannot be chosen natively and must be typed. */
export const folderChooser = () => transport().chooseFolder;
/** The page has loaded what it needs to be used. */
export const announceReady = () => transport().ready?.();
export const surface = () => transport().kind;

export function useTransport(chosen: Transport): void {
	current = chosen;
}

/** A call without input is written `call("status")`. */
type CallInput<N extends CallName> = Record<string, never> extends Calls[N]["input"] ? [input?: Calls[N]["input"]] : [input: Calls[N]["input"]];

let current: Transport | null = null;

function transport(): Transport {
	if (!current) throw new Error("useTransport() was not called");
	return current;
}
