//! How much memory this process may still take: what the machine has available, and what the limits of
//! its control groups and of the process itself leave (Linux; nothing is known elsewhere).
//!
//! Pages that only cache files are given back when memory is wanted, so they count as free. (`sysinfo`
//! counts them as used: a run that has just prepared its data would then find no room.)

use std::fmt;
use std::path::{Path, PathBuf};

/// Free bytes, and whose bound they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FreeMemory {
    pub(crate) bytes: u64,
    pub(crate) bound: Bound,
}

/// What bounds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The machine itself.
    Machine,
    /// The limit of a control group, as containers and job schedulers set it.
    Group,
    /// The limit of the process's address space, which counts what is reserved and never used too.
    AddressSpace,
    /// The limit of what the process may write to.
    Data,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Machine => "on this machine",
            Bound::Group => "under the memory limit of this container or job",
            Bound::AddressSpace => {
                "under the limit of address space that `ulimit -v` or the job's scheduler set"
            }
            Bound::Data => "under the limit that `ulimit -d` or the job's scheduler set",
        })
    }
}

/// What is free now.
pub(crate) fn free_memory() -> Option<FreeMemory> {
    below(Path::new("/"))
}

/// A number of kilobytes that the kernel tells in a file of lines, in bytes.
fn kilobytes(file: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

/// The same, of a system whose files lie below `root`.
fn below(root: &Path) -> Option<FreeMemory> {
    let machine = kilobytes(&root.join("proc/meminfo"), "MemAvailable:");
    let machine = machine.map(|bytes| FreeMemory { bytes, bound: Bound::Machine });
    let groups = groups(root).into_iter();
    let left = groups.map(|bytes| FreeMemory { bytes, bound: Bound::Group });
    let own = limits(root).into_iter();
    machine.into_iter().chain(left).chain(own).min_by_key(|free| free.bytes)
}

/// Address space of a thread's stack. Threads reserve more for what they allocate, and do without where there
/// is no more.
const STACK_BYTES: u64 = 2 << 20;
/// Threads that begin with the training, beside one a processor: log, commands, watchdog.
const THREADS: u64 = 8;
/// What the process allocates beside the model from now on. A limit that is its own leaves no room for a plan
/// that is a little short: an allocation that fails ends it.
const REST_BYTES: u64 = 48 << 20;

/// What the limits of this process leave.
fn limits(root: &Path) -> Vec<FreeMemory> {
    let text = std::fs::read_to_string(root.join("proc/self/limits")).unwrap_or_default();
    let limit = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        // `unlimited` where there is none.
        line.split_whitespace().next()?.parse().ok()
    };
    let used = |name: &str| kilobytes(&root.join("proc/self/status"), name).unwrap_or_default();
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let rest = (threads + THREADS) * STACK_BYTES + REST_BYTES;
    let left = |limit: u64, used: u64, bound: Bound| FreeMemory {
        bytes: limit.saturating_sub(used.saturating_add(rest)),
        bound,
    };
    let space =
        limit("Max address space").map(|limit| left(limit, used("VmSize:"), Bound::AddressSpace));
    let data = limit("Max data size").map(|limit| left(limit, used("VmData:"), Bound::Data));
    space.into_iter().chain(data).collect()
}

/// Address space that a plugin's call reserves where there is too little for a pool: 4 GiB of memory that a
/// component can name, and what guards it.
const PLUGIN_SPACE_BYTES: u64 = 5 << 30;

/// Why plugins will not load beside a run that takes `taken` bytes, if the address space is too small.
pub(crate) fn without_plugins(taken: u64) -> Option<String> {
    too_little_for_plugins(&limits(Path::new("/")), taken)
}

fn too_little_for_plugins(limits: &[FreeMemory], taken: u64) -> Option<String> {
    let space = limits.iter().find(|free| free.bound == Bound::AddressSpace)?;
    let left = space.bytes.saturating_sub(taken);
    (left < PLUGIN_SPACE_BYTES).then(|| {
        format!(
            "plugins will hardly load: a call reserves up to {} of address space, most of which it never uses, and beside the run {} are left {}; raise that limit, or train without plugins",
            crate::forecast::memory::shown(PLUGIN_SPACE_BYTES),
            crate::forecast::memory::shown(left),
            space.bound
        )
    })
}

/// Names of one version's files, and of what of `memory.stat` is given back on demand.
struct Version {
    limit: &'static str,
    usage: &'static str,
    caches: [&'static str; 2],
}

const FIRST: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    caches: ["total_inactive_file", "total_active_file"],
};

const SECOND: Version = Version {
    limit: "memory.max",
    usage: "memory.current",
    caches: ["inactive_file", "active_file"],
};

/// What each group above this process with a limit leaves.
fn groups(root: &Path) -> Vec<u64> {
    let mounts = root.join("sys/fs/cgroup");
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut left = Vec::new();
    // A line is `number:controllers:path`; the second version has no controllers.
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            left.extend(on_the_way(&mounts, path, &SECOND));
            left.extend(on_the_way(&mounts.join("unified"), path, &SECOND));
        } else if controllers.split(',').any(|one| one == "memory") {
            left.extend(on_the_way(&mounts.join("memory"), path, &FIRST));
        }
    }
    left
}

/// Of every folder from a mount down to a path. In a container the path may be that of the machine, and
/// the mount itself the group.
fn on_the_way(mount: &Path, path: &str, version: &Version) -> Vec<u64> {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != "..");
    let mut folder = PathBuf::from(mount);
    let mut left = Vec::from_iter(left_in(&folder, version));
    for part in parts {
        folder.push(part);
        left.extend(left_in(&folder, version));
    }
    left
}

fn left_in(folder: &Path, version: &Version) -> Option<u64> {
    let number = |name: &str| -> Option<u64> {
        std::fs::read_to_string(folder.join(name)).ok()?.trim().parse().ok()
    };
    // `max` where there is no limit.
    let (limit, usage) = (number(version.limit)?, number(version.usage)?);
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        version.caches.contains(&name).then(|| value.trim().parse::<u64>().ok())?
    };
    let caches: u64 = stat.lines().filter_map(cache).sum();
    Some(limit.saturating_sub(usage.saturating_sub(caches)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: (&str, &str) =
        ("proc/meminfo", "MemTotal:       100 kB\nMemAvailable:   50 kB\n");

    /// What is free on a system with these files.
    fn free(files: &[(&str, &str)]) -> Option<FreeMemory> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        below(root.path())
    }

    #[test]
    fn without_a_limit_it_is_what_the_machine_has_available() {
        let machine = Some(FreeMemory { bytes: 50 * 1024, bound: Bound::Machine });
        assert_eq!(free(&[MACHINE]), machine);
        let unlimited = [
            MACHINE,
            ("proc/self/cgroup", "0::/user.slice\n4:memory:/\n"),
            ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
            ("sys/fs/cgroup/user.slice/memory.current", "9000000\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "9000000\n"),
        ];
        assert_eq!(free(&unlimited), machine);
        assert_eq!(free(&[]), None);
    }

    #[test]
    fn limit_of_any_group_above_binds_and_cached_files_count_as_free() {
        let group = |bytes| Some(FreeMemory { bytes, bound: Bound::Group });
        let second = [
            MACHINE,
            ("proc/self/cgroup", "0::/kube/pod\n"),
            ("sys/fs/cgroup/kube/memory.max", "20000\n"),
            ("sys/fs/cgroup/kube/memory.current", "15000\n"),
            ("sys/fs/cgroup/kube/memory.stat", "anon 5000\ninactive_file 6000\nactive_file 4000\n"),
            ("sys/fs/cgroup/kube/pod/memory.max", "30000\n"),
            ("sys/fs/cgroup/kube/pod/memory.current", "1000\n"),
        ];
        assert_eq!(free(&second), group(15_000));
        let first = [
            MACHINE,
            ("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n"),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "20000\n"),
            ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "12000\n"),
            ("sys/fs/cgroup/memory/job/memory.stat", "cache 9\ntotal_inactive_file 500\n"),
        ];
        assert_eq!(free(&first), group(8_500));
    }

    #[test]
    fn in_a_container_the_mount_is_the_group() {
        let files = [
            MACHINE,
            ("proc/self/cgroup", "0::/docker/0123\n"),
            ("sys/fs/cgroup/memory.max", "4000\n"),
            ("sys/fs/cgroup/memory.current", "5000\n"),
        ];
        assert_eq!(free(&files), Some(FreeMemory { bytes: 0, bound: Bound::Group }));
    }

    #[test]
    fn limits_of_the_process_bind_and_those_of_address_space_are_told_where_plugins_need_more() {
        let limits = |space: &str, data: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             {data:20} unlimited            bytes     \n\
                 Max address space         {space:20} unlimited            bytes     \n"
            )
        };
        let machine = ("proc/meminfo", "MemAvailable: 90000000 kB\n");
        let status = ("proc/self/status", "VmSize:\t  400000 kB\nVmData:\t   20000 kB\n");
        let found = |limits: &str| free(&[machine, status, ("proc/self/limits", limits)]).unwrap();
        assert_eq!(found(&limits("unlimited", "unlimited")).bound, Bound::Machine);
        let space = found(&limits("1536000000", "unlimited"));
        assert_eq!(space.bound, Bound::AddressSpace);
        let left = 1_536_000_000 - 400_000 * 1024;
        assert!((left - 600_000_000..left).contains(&space.bytes), "{space:?}");
        assert_eq!(found(&limits("1536000000", "100000000")).bound, Bound::Data);
        assert_eq!(found(&limits("1000", "unlimited")).bytes, 0);
        let sentence = too_little_for_plugins(&[space], 0).unwrap();
        assert!(sentence.contains("reserves up to 5368.7 MB") && sentence.contains("`ulimit -v`"));
        let wide = FreeMemory { bytes: 9 << 30, bound: Bound::AddressSpace };
        assert_eq!(too_little_for_plugins(&[wide], 1 << 30), None);
        assert!(too_little_for_plugins(&[wide], 5 << 30).is_some());
    }
}
