import type { HyperparameterChoice, Hyperparameters } from "../../api/bindings";

/** The names of hyper-parameters that are plain numbers, asked for and used. */
export type NumberName = {
	[K in keyof HyperparameterChoice & keyof Hyperparameters]-?: NonNullable<HyperparameterChoice[K]> extends number ? K : never;
}[keyof HyperparameterChoice & keyof Hyperparameters];

/** The same, among those that are recorded only. */
export type UsedNumber = { [K in keyof Hyperparameters]-?: NonNullable<Hyperparameters[K]> extends number ? K : never }[keyof Hyperparameters];
