import type { Calls, Event, WriteEvent, WriteRequest } from "./bindings";

export type CallName = keyof Calls;

/** Whether changes arrive. `lost` means: trying again, what is on screen may be old. */
export type LinkState = "connecting" | "live" | "lost";

/** How the UI reaches the backend: the window's IPC or HTTP. All methods reject with [`Failure`](./errors.ts). */
export interface Transport {
	readonly kind: "window" | "browser";
	call<N extends CallName>(name: N, input: Calls[N]["input"]): Promise<Calls[N]["output"]>;
	/** Resolves when the stream has ended; `signal` asks the backend to stop, after which `chosen` still arrives. */
	write(request: WriteRequest, onEvent: (event: WriteEvent) => void, signal?: AbortSignal): Promise<void>;
	/** Returns a function that ends the subscription. */
	subscribe(onEvent: (event: Event) => void, onState: (state: LinkState) => void): () => void;
	/** Saves a file where the person says; `null` when they changed their mind, an empty path when only the browser knows it. */
	saveText(fileName: string, text: string): Promise<string | null>;
	saveBytes(fileName: string, base64: string, mime: string): Promise<string | null>;
	/** Tells the shell that the page can be used. */
	ready?: () => void;
	/** Native folder choice; absent where there is none and the path must be typed. */
	chooseFolder?: () => Promise<string | null>;
}
