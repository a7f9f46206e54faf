//! keylatch for C.
