import type { Transport } from "../../src/api/transport";
import { DemoTransport } from "./transport";

/** Takes the place of `src/api/pick.ts` under `--mode demo`. `?empty` starts as on the first day, `?fault` shows faults. */
export async function pickTransport(): Promise<Transport> {
	const query = new URLSearchParams(location.search);
	return new DemoTransport(query.has("empty"), query.has("fault"));
}
