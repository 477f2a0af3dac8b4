//! How this process keeps its memory.

/// Keeps memory that was freed for whoever asks next, rather than giving it back to the system: a
/// training step allocates what the one before it freed, and each page that comes anew from the system
/// costs a fault and is cleared first. For the whole process, from now on. Says whether the C library
/// took it; one other than glibc does not.
pub fn keep_freed_memory() -> bool {
    #[cfg(target_env = "gnu")]
    {
        // No block, however large, is a mapping of its own that ends with it; and the top of the heap
        // is never given back.
        let settings = [(libc::M_MMAP_MAX, 0), (libc::M_TRIM_THRESHOLD, -1)];
        #[expect(unsafe_code, reason = "plain numbers, which the C library checks")]
        settings.into_iter().all(|(name, value)| unsafe { libc::mallopt(name, value) } == 1)
    }
    #[cfg(not(target_env = "gnu"))]
    false
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "getrusage fills what it is given")]
    fn faults_of_this_thread() -> i64 {
        unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
            usage.ru_minflt
        }
    }

    #[test]
    fn freed_memory_serves_again_without_new_pages() {
        assert!(keep_freed_memory());
        // As tensors of a step: several, each large enough to be a mapping of its own by default.
        let step = || {
            let tensors: Vec<Vec<u8>> = (0..4).map(|_| vec![1; 8 << 20]).collect();
            drop(std::hint::black_box(tensors));
        };
        step();
        let before = faults_of_this_thread();
        step();
        let pages = (4 * (8 << 20)) / 4096;
        assert!(faults_of_this_thread() - before < pages / 8, "{pages} pages");
    }
}
