//! hm
