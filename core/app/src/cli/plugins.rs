//! What can be done with plugins.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Pack a core WebAssembly module into a component
    #[command(
        after_help = "Example:\n  hm plugin build my_policy.wasm -o my_policy.component.wasm"
    )]
    Build {
        /// Core module, as cargo builds it for wasm32-unknown-unknown
        module: PathBuf,
        /// Where the component goes
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Run every upload check on a component, without keeping it
    #[command(
        after_help = "Exit code: 0 every check passed, 1 one failed.\n\nExample:\n  hm plugin check my_policy.component.wasm"
    )]
    Check {
        /// The component
        component: PathBuf,
        /// Print the verdict as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a component and keep it in the database
    #[command(
        after_help = "Exit code: 0 it is installed, 1 a check failed.\n\nExample:\n  hm plugin install my_policy.component.wasm"
    )]
    Install {
        /// The component
        component: PathBuf,
        /// Print the verdict as JSON
        #[arg(long)]
        json: bool,
    },
    /// List installed plugins
    #[command(after_help = "Example:\n  hm plugin ls")]
    Ls {
        /// Print the list as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bind an installed plugin to a run, also while it trains
    #[command(
        after_help = "Example:\n  hm plugin bind my-run odm --config '{\"smoothing\": 0.5}' --shadow"
    )]
    Bind {
        /// Run: its name or id
        run: String,
        /// Plugin: digest or its first digits, name (the one installed last) or name@version
        plugin: String,
        /// Configuration as JSON
        #[arg(long, default_value = "{}")]
        config: String,
        /// Only log what it decides
        #[arg(long)]
        shadow: bool,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Call a plugin of a run no more, also while it trains
    #[command(
        visible_alias = "unbind",
        after_help = "`hm runs show` has the numbers of a run's plugins.\n\nExample:\n  hm plugin release my-run odm"
    )]
    Release {
        /// Run: its name or id
        run: String,
        /// Plugin: its number in the run, or its name where it is bound once
        plugin: String,
        /// Why, for the log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
}
