import { HttpTransport, takeToken } from "./http";
import { isTauri } from "@tauri-apps/api/core";
import type { Transport } from "./transport";

/** The window's IPC inside the shell, HTTP in a browser. */
export async function pickTransport(): Promise<Transport> {
	if (isTauri() || "__TAURI_INTERNALS__" in globalThis) {
		const { WindowTransport } = await import("./tauri");
		return new WindowTransport();
	}
	return new HttpTransport(takeToken());
}
