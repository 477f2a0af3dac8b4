//! Executes the plugin calls of an audit again, segments side by side, each under the limits that its
//! binding's event records.

use anyhow::{Context, Result, bail};
use hm_domain::audit::{Proofs, Segment, Start};
use hm_domain::id::Digest;
use hm_domain::plugin::{Limits, Plugins};
use hm_host::Host;
use rayon::prelude::*;

use super::source::Source;

/// Segments executed together: bounds what is held in memory.
const SEGMENTS_AT_ONCE: usize = 64;
/// Bytes of what waits, about, at most.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Limits of calls that one audit makes a host for: a log of honest bindings has one or two.
const HOSTS_MAX: usize = 16;
/// How many times what a call may use by default it may use in an audit.
const LIMITS_FACTOR_MAX: u64 = 64;

/// Segments that wait for their turn, and what they are executed with.
pub(super) struct Executor<'a> {
    source: &'a dyn Source,
    hosts: Vec<Host>,
    waiting: Vec<Segment>,
}

impl Executor<'_> {
    pub(super) fn new(source: &dyn Source) -> Executor<'_> {
        Executor { source, hosts: Vec::new(), waiting: Vec::new() }
    }

    /// Files segments that are complete.
    pub(super) fn take(&mut self, segments: Vec<Segment>) {
        self.waiting.extend(segments);
    }

    /// Executes what waits, once there is enough of it, or more is to go on from it.
    pub(super) fn execute_what_waits(&mut self, proofs: &mut Proofs) -> Result<()> {
        let bytes: usize = self.waiting.iter().map(Segment::bytes).sum();
        let is_enough = self.waiting.len() >= SEGMENTS_AT_ONCE || bytes >= WAITING_BYTES_MAX;
        match is_enough || self.waiting.iter().any(Segment::has_more) {
            true => self.execute(proofs),
            false => Ok(()),
        }
    }

    /// Loads what the segments need, then executes them on all cores.
    ///
    /// # Errors
    /// When bytes that the log names are not there, or are others: nothing can be told then.
    pub(super) fn execute(&mut self, proofs: &mut Proofs) -> Result<()> {
        let mut work = Vec::with_capacity(self.waiting.len());
        for segment in std::mem::take(&mut self.waiting) {
            match self.ready(&segment) {
                Ok((host, kept)) => work.push((segment, host, kept)),
                // A log that is known to be another than it was may name whatever it likes.
                Err(_) if proofs.first.is_some() => proofs.not_provable += segment.claims(),
                Err(error) => return Err(error),
            }
        }
        let parts: Vec<Proofs> = work
            .into_par_iter()
            .map(|(segment, host, kept)| {
                segment.execute(&host as &dyn Plugins, kept, host.fingerprint())
            })
            .collect();
        parts.into_iter().for_each(|part| proofs.add(part));
        Ok(())
    }

    /// What a segment is executed with: its plugin, loaded, and the bytes of a kept start.
    fn ready(&mut self, segment: &Segment) -> Result<(Host, Option<Vec<u8>>)> {
        let host = self.host(segment.limits())?;
        self.load(&host, segment.plugin())?;
        let kept = match segment.start {
            Start::Kept(digest) => Some(self.kept(digest)?),
            Start::Init(_) | Start::Goes(_) => None,
        };
        Ok((host, kept))
    }

    /// A host of these limits.
    fn host(&mut self, limits: &Limits) -> Result<Host> {
        if let Some(host) = self.hosts.iter().find(|host| host.limits() == limits) {
            return Ok(host.clone());
        }
        if !limits.within(LIMITS_FACTOR_MAX) || self.hosts.len() >= HOSTS_MAX {
            bail!(
                "a binding's calls ran under {limits:?}: an audit makes calls under at most {HOSTS_MAX} \
                 different limits, each at most {LIMITS_FACTOR_MAX} times the default"
            );
        }
        let host = Host::new(limits.clone())?;
        self.hosts.push(host.clone());
        Ok(host)
    }

    fn load(&self, host: &Host, plugin: Digest) -> Result<()> {
        if host.is_loaded(&plugin) {
            return Ok(());
        }
        let named = || format!("plugin {plugin}, which the log names");
        let wasm =
            self.source.plugin(plugin)?.with_context(|| format!("{} is missing", named()))?;
        identical(&wasm, plugin).with_context(named)?;
        host.load(&wasm).with_context(|| format!("{} does not load", named()))?;
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
