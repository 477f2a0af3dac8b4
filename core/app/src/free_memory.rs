//! How much memory this process may still take: what the machine has available, and what the limits of
//! its control groups leave (Linux; nothing is known elsewhere).
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
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Machine => "on this machine",
            Bound::Group => "under the memory limit of this container or job",
        })
    }
}

/// What is free now.
pub(crate) fn free_memory() -> Option<FreeMemory> {
    below(Path::new("/"))
}

/// A number of kilobytes that the kernel tells in a file of lines, in bytes.
pub(crate) fn kilobytes(file: &Path, name: &str) -> Option<u64> {
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
    machine.into_iter().chain(left).min_by_key(|free| free.bytes)
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
}
