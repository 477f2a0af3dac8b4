//! What can be typed of heads, keys, archives and proofs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::prove::anchors::Head;
use crate::prove::key::PublicKey;

/// What an audit holds a chain against.
#[derive(Debug, Args)]
pub(crate) struct HeldArgs {
    /// Hold the chain against a head that was printed or written down; may be repeated
    #[arg(long = "head", value_name = "SEQ:HASH")]
    pub(crate) heads: Vec<Head>,
    /// Hold it against the signed heads in a file, such as a checkpoint's anchor.json; may be repeated. Those in
    /// anchors/RUN.jsonl of the data folder are looked at anyway
    #[arg(long, value_name = "FILE")]
    pub(crate) anchors: Vec<PathBuf>,
    /// Public key that has signed them, as `hm key show` prints it; this machine's own unless given
    #[arg(long, value_name = "PUBLIC")]
    pub(crate) key: Option<PublicKey>,
}

#[derive(Debug, Args)]
pub(crate) struct ArchiveArgs {
    /// Run: its name or id
    pub(crate) run: String,
    /// New folder; archives/ID in the data folder unless given
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: Option<PathBuf>,
    /// Take the run, which must have ended, out of the database then
    #[arg(long)]
    pub(crate) drop: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// Run: its name or id; or the folder of an archive
    #[arg(value_name = "RUN|FOLDER")]
    pub(crate) run: String,
    /// The event's place in the log
    pub(crate) seq: u64,
    /// New file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "it is made once, of what was typed")]
pub(crate) enum KeyCommand {
    /// Print the public key and its id
    #[command(after_help = "Example:\n  hm key show")]
    Show {
        /// Print them as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check the signature on a statement, an anchor or a head, and print what was signed
    #[command(
        after_help = "Exit code: 0 the key has signed it, 1 it has not.\n\nExample:\n  hm key verify statement.json --key PUBLIC"
    )]
    Verify {
        /// The envelope (DSSE), or a file with one on each line
        file: PathBuf,
        /// Public key, as `hm key show` prints it; this machine's own unless given
        #[arg(long, value_name = "PUBLIC")]
        key: Option<PublicKey>,
    },
}
