//! Plugins that a run was asked to bind, made ready beside it: fetched, compiled, their configuration
//! held against their schema. None of that may hold up a step, so the wish is answered at the first
//! boundary after it is done; other wishes pass it meanwhile.

use std::sync::mpsc::{Receiver, TryRecvError, channel};

use hm_domain::command::{Asked, Candidate, Command};

use crate::work::registry::Registry;

type Prepared = Result<Candidate, String>;

/// What is being made ready.
#[derive(Default)]
pub(crate) struct Preparations(Vec<(Asked, Receiver<Prepared>)>);

impl Preparations {
    /// Starts to make ready what `asked` names, if it is a wish to bind a plugin; gives any other back.
    pub(crate) fn begin(&mut self, registry: &Registry, asked: Asked) -> Option<Asked> {
        let Command::Bind { plugin, config, .. } = &asked.command else { return Some(asked) };
        let (registry, plugin, config) = (registry.clone(), plugin.clone(), config.clone());
        let (sender, receiver) = channel();
        let prepare = move || {
            // Where nobody waits any more, the run has ended.
            let _ = sender.send(registry.candidate(&plugin, &config));
        };
        // A thread that cannot be started drops its end, and that is an answer.
        let started = std::thread::Builder::new().name("plugin-binding".to_owned()).spawn(prepare);
        if let Err(error) = started {
            tracing::warn!(%error, "no thread for a plugin");
        }
        self.0.push((asked, receiver));
        None
    }

    /// What has become ready, in the order in which it was asked for, and why not if it could not.
    pub(crate) fn ready(&mut self) -> Vec<(Asked, Prepared)> {
        let mut ready = Vec::new();
        for (asked, receiver) in std::mem::take(&mut self.0) {
            match receiver.try_recv() {
                Ok(prepared) => ready.push((asked, prepared)),
                Err(TryRecvError::Empty) => self.0.push((asked, receiver)),
                Err(TryRecvError::Disconnected) => {
                    let why = "making the plugin ready broke off; the worker's terminal says why";
                    ready.push((asked, Err(why.to_owned())));
                }
            }
        }
        ready
    }

    /// Whether nothing is being made ready.
    pub(crate) fn are_done(&self) -> bool {
        self.0.is_empty()
    }
}
