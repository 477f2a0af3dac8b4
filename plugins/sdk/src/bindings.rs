//! Generated from `wit/0.1.0`. A later interface gets a module of its own.

pub mod policy {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "policy",
        pub_export_macro: true,
    });
}

pub mod detector {
    wit_bindgen::generate!({
        path: "../../wit/0.1.0",
        world: "detector",
        pub_export_macro: true,
        // The two worlds share their types.
        with: { "heurimentor:plugin/types@0.1.0": crate::bindings::policy::heurimentor::plugin::types },
    });
}
