//! All devices' replicas, and the threads they work on.

use crate::device_thread::{DeviceThread, spread};
use crate::error::Result;
use crate::ops::Ops;
use crate::parameters::{self, Parameters, of_values};
use crate::replica::Replica;

/// Replicas, at least one and all alike. A single one works on the caller's thread, several on one
/// each, always the same.
pub(crate) struct Team {
    replicas: Vec<Replica>,
    /// None where there is one replica.
    threads: Vec<DeviceThread>,
    seed: u64,
}

impl Team {
    /// Replicas without weights: those of `seed` are drawn when they are first needed, unless others
    /// are taken before.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub(crate) fn new(replicas: Vec<Replica>, seed: u64) -> Result<Team> {
        let threads = match replicas.len() {
            1 => 0,
            several => several,
        };
        let threads = (0..threads).map(DeviceThread::start).collect::<Result<_>>()?;
        Ok(Team { replicas, threads, seed })
    }

    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.replicas.len()
    }

    /// The operations of the first device.
    pub(crate) fn ops(&self) -> &Ops {
        &self.replicas[0].decoder.ops
    }

    /// The replicas, to be looked at.
    pub(crate) fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    #[cfg(test)]
    pub(crate) fn first_mut(&mut self) -> &mut Replica {
        &mut self.replicas[0]
    }

    /// The team with weights: draws the first values if there are none yet. The first draws, the others
    /// copy.
    pub(crate) fn filled(&self) -> &Team {
        let first = &self.replicas[0];
        let first = first.parameters.get_or_init(|| {
            // Drawn by all of the caller's threads, made into tensors on the device's own.
            parameters::drawn(&first.decoder.model, self.seed, &|shape, values| {
                self.on_first(|replica| of_values(shape, values, replica.device()))
            })
        });
        if self.replicas[1..].iter().any(|other| other.parameters.get().is_none()) {
            self.each(vec![(); self.count()], |replica, ()| {
                replica.parameters.get_or_init(|| parameters::on(first, replica.device()));
            });
        }
        self
    }

    /// Takes parameters, which are on the first device, in place of what was there.
    pub(crate) fn take(&mut self, parameters: Parameters) {
        for replica in &mut self.replicas[1..] {
            replica.parameters.take();
        }
        self.replicas[0].parameters = parameters.into();
        self.filled();
    }

    /// Does `work` with the first replica on its thread.
    pub(crate) fn on_first<'a, T: Send>(&'a self, work: impl FnOnce(&'a Replica) -> T + Send) -> T {
        let first = &self.replicas[0];
        match self.threads.first() {
            Some(thread) => thread.run(|| work(first)),
            None => work(first),
        }
    }

    /// Does `work` with every replica and its item, all at once.
    pub(crate) fn each<I: Send, T: Send>(
        &self,
        items: Vec<I>,
        work: impl Fn(&Replica, I) -> T + Sync,
    ) -> Vec<T> {
        all(&self.threads, self.replicas.iter().zip(items), |(replica, item)| work(replica, item))
    }

    /// The same, where the replicas change.
    pub(crate) fn each_mut<I: Send>(
        &mut self,
        items: Vec<I>,
        work: impl Fn(&mut Replica, I) + Sync,
    ) {
        let Team { replicas, threads, .. } = self;
        all(threads, replicas.iter_mut().zip(items), |(replica, item)| work(replica, item));
    }
}

/// On the threads where there are any, else here.
fn all<I: Send, T: Send>(
    threads: &[DeviceThread],
    items: impl Iterator<Item = I>,
    work: impl Fn(I) -> T + Sync,
) -> Vec<T> {
    if threads.is_empty() {
        items.map(work).collect()
    } else {
        spread(threads, items.collect(), &work)
    }
}
