//! The preference model, text features, quality score and voting
