//! Who took a stream last: host, process, and when that began. The lock says who writes now; this says
//! whether a worker that has lost its connection, and the lock with it, lives on and will come back.

/// A process that took a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Host and process, for people.
    pub(crate) name: String,
    /// When it began, in clock ticks after its machine did; none where that is not known.
    pub(crate) began: Option<i64>,
}

impl Holder {
    /// This process.
    pub(crate) fn here() -> Holder {
        let process = std::process::id();
        Holder { name: name(process), began: began(process) }
    }

    /// Whether the process has not ended, where it is one of this host. A number that another process has
    /// by now is told by when that began. Of other hosts nothing is known.
    pub(crate) fn lives(&self) -> Option<bool> {
        let number = self.name.strip_prefix("process ").and_then(|rest| rest.split_once(' '));
        let process: u32 = number.and_then(|(number, _)| number.parse().ok())?;
        let is_here = self.name == name(process) && self.began.is_some();
        is_here.then(|| self.began == began(process))
    }
}

fn name(process: u32) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    format!("process {process} on {}", host.to_string_lossy())
}

/// When a process began, if it is there and has not ended (Linux).
fn began(process: u32) -> Option<i64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    let mut after_name = text.rsplit_once(") ")?.1.split(' ');
    let state = after_name.next()?;
    // One that nobody has buried yet has ended.
    if matches!(state, "Z" | "X") {
        return None;
    }
    after_name.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn process_lives_until_it_has_ended_and_only_the_one_that_began_then() {
        assert_eq!(Holder::here().lives(), Some(true));
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let holder = Holder { name: name(other.id()), began: began(other.id()) };
        assert_eq!(holder.lives(), Some(true));
        let reused = Holder { began: holder.began.map(|ticks| ticks - 1), ..holder.clone() };
        assert_eq!(reused.lives(), Some(false));
        let unknown = Holder { began: None, ..holder.clone() };
        let elsewhere = Holder { name: format!("{}-not", holder.name), ..holder.clone() };
        for other in [unknown, elsewhere] {
            assert_eq!(other.lives(), None, "{other:?}");
        }
        other.kill().unwrap();
        // Ended, and not buried yet.
        while began(other.id()).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(holder.lives(), Some(false));
        other.wait().unwrap();
        assert_eq!(holder.lives(), Some(false));
    }
}
