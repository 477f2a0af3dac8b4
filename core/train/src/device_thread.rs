//! A thread for one of several devices. All that is done with the device is done there: on CUDA every
//! thread has a stream of its own, and every stream a memory pool that gives nothing back, so a new
//! thread a step would fill the device with pools.

use std::thread::JoinHandle;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Result, TrainError};

/// A thread that waits for work as long as this lives, and is joined at its end. It is a pool of one,
/// since a pool lends its thread what the caller has only borrowed.
#[derive(Debug)]
pub(crate) struct DeviceThread {
    pool: Option<ThreadPool>,
    thread: Option<JoinHandle<()>>,
}

impl DeviceThread {
    /// Starts the thread of the device of this rank.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(rank: usize) -> Result<DeviceThread> {
        let mut thread = None;
        let pool = ThreadPoolBuilder::new()
            .num_threads(1)
            .spawn_handler(|worker| {
                let named = std::thread::Builder::new().name(format!("device {rank}"));
                thread = Some(named.spawn(|| worker.run())?);
                Ok(())
            })
            .build()
            .map_err(|error| TrainError::Device(format!("no thread for device {rank}: {error}")))?;
        Ok(DeviceThread { pool: Some(pool), thread })
    }

    fn pool(&self) -> &ThreadPool {
        self.pool.as_ref().expect("it is there until the end")
    }

    /// Does `work` on the thread; a panic of it goes on here.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool().install(work)
    }
}

impl Drop for DeviceThread {
    fn drop(&mut self) {
        // The pool's end ends its thread.
        drop(self.pool.take());
        if let Some(thread) = self.thread.take() {
            // Panics of work were handed on when they happened; there is nothing else to tell.
            let _ = thread.join();
        }
    }
}

/// Does `work` with each item on the thread of its place, all at once. A panic goes on here when all
/// are through.
pub(crate) fn spread<I: Send, T: Send>(
    threads: &[DeviceThread],
    items: Vec<I>,
    work: &(impl Fn(I) -> T + Sync),
) -> Vec<T> {
    assert_eq!(threads.len(), items.len(), "every thread has an item");
    let mut places: Vec<(Option<I>, Option<T>)> =
        items.into_iter().map(|item| (Some(item), None)).collect();
    fork(threads, &mut places, work);
    places.into_iter().map(|(_, done)| done.expect("every thread came to its end")).collect()
}

/// Starts the first, forks the rest, and waits for the first.
fn fork<I: Send, T: Send>(
    threads: &[DeviceThread],
    places: &mut [(Option<I>, Option<T>)],
    work: &(impl Fn(I) -> T + Sync),
) {
    let (Some((thread, threads)), Some((place, places))) =
        (threads.split_first(), places.split_first_mut())
    else {
        return;
    };
    thread.pool().in_place_scope(|scope| {
        scope.spawn(move |_| place.1 = place.0.take().map(work));
        fork(threads, places, work);
    });
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::thread::ThreadId;

    use super::*;

    fn threads(count: usize) -> Vec<DeviceThread> {
        (0..count).map(|rank| DeviceThread::start(rank).unwrap()).collect()
    }

    fn ids(threads: &[DeviceThread]) -> Vec<ThreadId> {
        spread(threads, vec![(); threads.len()], &|()| std::thread::current().id())
    }

    #[test]
    fn every_place_keeps_its_own_thread() {
        let threads = threads(3);
        let first = ids(&threads);
        assert_eq!(ids(&threads), first);
        let alone: Vec<ThreadId> =
            threads.iter().map(|thread| thread.run(|| std::thread::current().id())).collect();
        assert_eq!(alone, first);
        let here = std::thread::current().id();
        assert!(first[0] != first[1] && first[1] != first[2] && !first.contains(&here));
    }

    #[test]
    fn all_work_at_once_and_results_are_in_order() {
        let threads = threads(3);
        // None would get beyond it if they took turns.
        let meeting = Barrier::new(3);
        let found = spread(&threads, vec![1, 2, 3], &|item| {
            meeting.wait();
            10 * item
        });
        assert_eq!(found, [10, 20, 30]);
    }

    #[test]
    fn panic_of_one_is_told_and_its_thread_goes_on() {
        let threads = threads(2);
        let before = ids(&threads);
        let panics = |item: usize| assert!(item != 1, "a device failed");
        let caught = catch_unwind(AssertUnwindSafe(|| spread(&threads, vec![0, 1], &panics)));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"a device failed"));
        assert_eq!(ids(&threads), before);
    }
}
