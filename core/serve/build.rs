//! Compiles the crate again when the built page changes. Builds no page: `make web` does.

use std::path::Path;

fn main() {
    // A path that does not exist would make every build start over, so the nearest that does is watched.
    let page = Path::new("../../web/dist");
    let watched = if page.exists() { page } else { Path::new("../../web") };
    println!("cargo:rerun-if-changed={}", watched.display());
    println!("cargo:rerun-if-changed=build.rs");
}
