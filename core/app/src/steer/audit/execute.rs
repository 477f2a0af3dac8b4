//! Executes the plugin calls of an audit again, segments side by side.

use anyhow::{Context, Result, bail};
use hm_domain::audit::{Proofs, Segment, Start};
use hm_domain::id::Digest;
use hm_domain::plugin::Plugins;
use rayon::prelude::*;

use super::source::Source;
use hm_host::Host;

/// Segments executed together: bounds what is held in memory.
const SEGMENTS_AT_ONCE: usize = 64;

/// Segments that wait for their turn, and what they are executed with.
pub(super) struct Executor<'a> {
    source: &'a dyn Source,
    host: Host,
    waiting: Vec<Segment>,
}

impl Executor<'_> {
    pub(super) fn new(source: &dyn Source, host: Host) -> Executor<'_> {
        Executor { source, host, waiting: Vec::new() }
    }

    /// Files segments that are complete.
    pub(super) fn take(&mut self, segments: Vec<Segment>) {
        self.waiting.extend(segments);
    }

    /// Executes what waits, once there is enough of it.
    pub(super) fn execute_what_waits(&mut self, proofs: &mut Proofs) -> Result<()> {
        if self.waiting.len() < SEGMENTS_AT_ONCE { Ok(()) } else { self.execute(proofs) }
    }

    /// Loads what the segments need, then executes them on all cores.
    ///
    /// # Errors
    /// When bytes that the log names are not there, or are others: nothing can be told then.
    pub(super) fn execute(&mut self, proofs: &mut Proofs) -> Result<()> {
        let mut work = Vec::with_capacity(self.waiting.len());
        for segment in std::mem::take(&mut self.waiting) {
            self.load(segment.plugin)?;
            let kept = match segment.start {
                Start::Kept(digest) => Some(self.kept(digest)?),
                Start::Init(_) => None,
            };
            work.push((segment, kept));
        }
        let host = &self.host;
        let engine = host.fingerprint();
        let parts: Vec<Proofs> = work
            .into_par_iter()
            .map(|(segment, kept)| segment.execute(host as &dyn Plugins, kept, engine))
            .collect();
        parts.into_iter().for_each(|part| proofs.add(part));
        Ok(())
    }

    fn load(&self, plugin: Digest) -> Result<()> {
        if self.host.is_loaded(&plugin) {
            return Ok(());
        }
        let named = || format!("plugin {plugin}, which the log names");
        let wasm =
            self.source.plugin(plugin)?.with_context(|| format!("{} is missing", named()))?;
        identical(&wasm, plugin).with_context(named)?;
        self.host.load(&wasm).with_context(|| format!("{} does not load", named()))?;
        Ok(())
    }

    fn kept(&self, state: Digest) -> Result<Vec<u8>> {
        let named = || format!("plugin state {state}, which the log names");
        let bytes = self.source.state(state)?.with_context(|| format!("{} is missing", named()))?;
        identical(&bytes, state).with_context(named)?;
        Ok(bytes)
    }
}

/// Whether bytes are those that a digest names.
fn identical(bytes: &[u8], named: Digest) -> Result<()> {
    let found = Digest::of(bytes);
    if found != named {
        bail!("{} bytes lie in its place that have digest {found}", bytes.len());
    }
    Ok(())
}
