//! Bases: loading, tokenizer, decoder, adapters as forward-time parts, sampling, batched generation
