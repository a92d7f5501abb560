//! Training recipes, optimizer, batching, checkpoints; knows no store, queue or window
