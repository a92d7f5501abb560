import type { ApiError, ErrorCode, FieldFault } from "./bindings";

/** The backend's codes, and one of our own: nobody answered. */
export type FailureCode = ErrorCode | "unreachable";

/** Where an error is shown. */
export type Place = "inline" | "toast" | "dialog";

/** The one table from code to place; nothing looks at an error's words. */
export const PLACE: Record<FailureCode, Place> = {
	invalid_input: "inline",
	unauthorized: "dialog",
	forbidden: "dialog",
	not_found: "toast",
	conflict: "inline",
	too_large: "inline",
	unsupported_media_type: "inline",
	not_ready: "inline",
	out_of_memory: "inline",
	disk_full: "dialog",
	storage: "toast",
	newer_data: "dialog",
	busy: "dialog",
	model_missing: "dialog",
	model_damaged: "dialog",
	damaged: "dialog",
	cancelled: "toast",
	network: "inline",
	overloaded: "toast",
	internal: "toast",
	unreachable: "toast",
};

/** An `ApiError` that can be thrown. */
export class Failure extends Error {
	readonly code: FailureCode;
	readonly hint: string | null;
	readonly detail: FieldFault[];

	constructor(error: { code: FailureCode; message: string; hint?: string | null; detail?: FieldFault[] }) {
		super(error.message);
		this.name = "Failure";
		this.code = error.code;
		this.hint = error.hint ?? null;
		this.detail = error.detail ?? [];
	}

	get place(): Place {
		return PLACE[this.code];
	}
}

/** Whatever was thrown or received, as a `Failure`. */
export function toFailure(thrown: unknown): Failure {
	if (thrown instanceof Failure) return thrown;
	if (isApiError(thrown)) return new Failure(thrown);
	if (isRecord(thrown) && isApiError(thrown.error)) return new Failure(thrown.error);
	const message = thrown instanceof Error ? thrown.message : typeof thrown === "string" ? thrown : "Something unexpected went wrong.";
	return new Failure({ code: "internal", message });
}

function isApiError(value: unknown): value is ApiError {
	return isRecord(value) && typeof value.code === "string" && value.code in PLACE && typeof value.message === "string";
}

function isRecord(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null;
}
