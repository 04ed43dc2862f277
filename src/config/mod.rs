//! RON text to a draft (as written) to a plan (only valid values).
