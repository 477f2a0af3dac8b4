//! What an upload must pass: the protocol of checks, and the trial run after loading.

use hm_domain::id::Digest;
use hm_domain::plugin::{Change, Finding, Limits, Outcome, Output, Reply};
use hm_domain::step::Verdict;
use serde::Serialize;
use serde_json::Value;

use crate::golden;
use crate::host::{Host, Loaded};
use crate::{load, schema};

/// One check of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which: `bytes`, `component`, `imports`, `world`, `describe`, `schema`, `init`, `output`, `repeat`.
    pub name: &'static str,
    /// Whether the plugin may be used as far as this check knows.
    pub passed: bool,
    /// What was found and, where it failed, how to mend it.
    pub message: String,
}

/// The protocol of an upload.
pub struct Checked {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// The plugin, if it passed all.
    pub loaded: Option<Loaded>,
    /// In order, up to the first that failed.
    pub checks: Vec<Check>,
}

impl Checked {
    /// Whether every check passed.
    pub fn accepted(&self) -> bool {
        self.loaded.is_some()
    }
}

/// What a check gives and what was found, or why it failed.
pub(crate) type Passed<T> = Result<(T, String), String>;

/// The checks so far.
#[derive(Default)]
pub(crate) struct Protocol(Vec<Check>);

impl Protocol {
    /// Enters a check; a failed one is also the error.
    pub(crate) fn enter<T>(&mut self, name: &'static str, found: Passed<T>) -> Result<T, Check> {
        let (value, check) = match found {
            Ok((value, message)) => (Some(value), Check { name, passed: true, message }),
            Err(message) => (None, Check { name, passed: false, message }),
        };
        // A plugin's own words may be part of it, and the protocol is kept where no zero character can be.
        let check = Check { message: check.message.replace('\0', "\u{fffd}"), ..check };
        self.0.push(check.clone());
        value.ok_or(check)
    }
}

impl Host {
    /// Everything an upload must pass, up to the first check that fails.
    ///
    /// The trial run has three domains and a configuration guessed from the schema's own defaults and
    /// examples. Where none can be guessed, or `init` refuses the trial run in its own words, the
    /// plugin passes as not tried: it may well suit another run, and binding calls `init` again.
    pub fn check(&self, wasm: &[u8]) -> Checked {
        let digest = Digest::of(wasm);
        let mut protocol = Protocol::default();
        // Whoever checks it need not be who calls it: it is not kept loaded.
        let loaded = self.try_out(digest, wasm, &mut protocol).ok();
        Checked { digest, loaded, checks: protocol.0 }
    }

    fn try_out(
        &self,
        digest: Digest,
        wasm: &[u8],
        protocol: &mut Protocol,
    ) -> Result<Loaded, Check> {
        let loaded = load::open(self, digest, wasm, protocol)?;
        let config = schema::check_schema(&loaded.description.config_schema);
        let config = protocol.enter("schema", config)?;
        let trial = config.as_ref().map(|config| Trial::run(self, &loaded, config));
        protocol.enter("init", init(trial.as_ref(), config.as_ref(), self.limits()))?;
        protocol.enter("output", output(trial.as_ref(), self.limits()))?;
        let again = config.as_ref().map(|config| Trial::run(self, &loaded, config));
        protocol.enter("repeat", repeat(trial.as_ref(), again.as_ref()))?;
        Ok(loaded)
    }
}

/// Replies of a run, from `init` to the first that did not end well.
#[derive(Debug)]
struct Trial(Vec<(&'static str, Reply)>);

impl Trial {
    fn run(host: &Host, loaded: &Loaded, config: &Value) -> Trial {
        let first = host.execute(loaded, &golden::init(config));
        let mut state = first.value.as_ref().map(|(state, _)| state.clone());
        let mut replies = vec![("init", first)];
        for call in golden::calls(loaded.world, &loaded.description) {
            let Some(before) = state else { break };
            let (name, request) = call.request(before);
            let reply = host.execute(loaded, &request);
            state = reply.value.as_ref().map(|(state, _)| state.clone());
            replies.push((name, reply));
        }
        Trial(replies)
    }
}

const NOT_TRIED: &str = "not tried: there is no state to go on from";

fn init(trial: Option<&Trial>, config: Option<&Value>, limits: &Limits) -> Passed<()> {
    let (Some(Trial(replies)), Some(config)) = (trial, config) else {
        let remedy = "state `default` or `examples` in the schema to have it tried";
        return Ok(((), format!("not tried: no configuration can be guessed; {remedy}")));
    };
    let reply = &replies[0].1;
    match &reply.outcome {
        Outcome::Ok => {
            let fuel = reply.fuel;
            Ok(((), format!("with {config} and three domains: ends well, {fuel} fuel")))
        }
        Outcome::GuestError(message) => {
            let message = format!("not tried: init refuses the trial run with {config}: {message}");
            Ok(((), message))
        }
        outcome => Err(format!("init with {config} and three domains {}", say(outcome, limits))),
    }
}

fn output(trial: Option<&Trial>, limits: &Limits) -> Passed<()> {
    let Some(Trial(replies)) = trial.filter(|trial| trial.0.len() > 1) else {
        return Ok(((), NOT_TRIED.to_owned()));
    };
    for (number, (name, reply)) in replies.iter().enumerate().skip(1) {
        let Some((_, output)) = &reply.value else {
            let text = say(&reply.outcome, limits);
            return Err(format!("{name}, call {number} of the trial run, {text}"));
        };
        conforms(output).map_err(|text| {
            format!("{name}, call {number} of the trial run with three domains, answers {text}")
        })?;
    }
    let (count, most) = (replies.len() - 1, replies.iter().map(|(_, reply)| reply.fuel).max());
    let most = most.unwrap_or(0);
    Ok(((), format!("{count} calls conform, none takes more than {most} fuel")))
}

/// Whether an output of the trial run means something. Live, the host's rules decide this anew.
fn conforms(output: &Output) -> Result<(), String> {
    match output {
        Output::Nothing => Ok(()),
        Output::Actions(actions) => actions.iter().try_for_each(|action| match &action.change {
            Change::SetMixture(shares) => weights("set-mixture", shares),
            Change::SetLossWeights(values) => weights("set-loss-weights", values),
            Change::Validate | Change::Note => Ok(()),
        }),
        Output::Verdict(Verdict::ClipTo(norm)) if !norm.is_finite() || *norm <= 0.0 => {
            Err(format!("clip-to {norm}: it must be a positive number"))
        }
        Output::Verdict(_) => Ok(()),
        Output::Findings(findings) => findings.iter().try_for_each(finding),
    }
}

fn weights(name: &str, values: &[f64]) -> Result<(), String> {
    let count = golden::DOMAINS.len();
    if values.len() != count {
        let found = values.len();
        return Err(format!("{name} with {found} values: give one per domain, here {count}"));
    }
    if let Some(value) = values.iter().find(|value| !value.is_finite() || **value < 0.0) {
        return Err(format!("{name} with {value}: values must be finite and not negative"));
    }
    if values.iter().all(|value| *value == 0.0) {
        return Err(format!("{name} with zeros only: at least one must be positive"));
    }
    Ok(())
}

fn finding(finding: &Finding) -> Result<(), String> {
    let count = golden::DOMAINS.len() as u32;
    match finding.domains.iter().find(|domain| **domain >= count) {
        Some(domain) => {
            let kind = &finding.kind;
            Err(format!(
                "finding `{kind}` on domain {domain}: domains count from 0 to {}",
                count - 1
            ))
        }
        None => Ok(()),
    }
}

fn repeat(first: Option<&Trial>, again: Option<&Trial>) -> Passed<()> {
    let (Some(first), Some(again)) = (first, again) else {
        return Ok(((), NOT_TRIED.to_owned()));
    };
    // As text, in which one NaN equals another.
    let differ = first.0.iter().zip(&again.0).find(|(a, b)| format!("{a:?}") != format!("{b:?}"));
    if let Some(((name, _), _)) = differ {
        let remedy = "nothing but the state and the arguments may decide";
        return Err(format!("{name} executed twice differs: {remedy}"));
    }
    Ok(((), "executed twice with equal state, output and fuel".to_owned()))
}

/// How a call ended, as the end of a sentence.
pub(crate) fn say(outcome: &Outcome, limits: &Limits) -> String {
    match outcome {
        Outcome::Ok => "ends well".to_owned(),
        Outcome::GuestError(message) => format!(
            "says no to ordinary observations: {message}; where there is nothing to decide, answer nothing"
        ),
        Outcome::Trap(kind) if kind == "memory-limit" => {
            format!("wants more than {} bytes of memory: keep less", limits.memory_bytes_max)
        }
        Outcome::Trap(kind) => format!("traps ({kind}): return an error instead"),
        Outcome::OutOfFuel => format!("uses up its {} fuel: do less in one call", limits.fuel),
        Outcome::Deadline => {
            format!(
                "ran into the deadline of {} ms: try when the machine is idle",
                limits.deadline_ms
            )
        }
        Outcome::HostMemory => "found no memory on this machine: try again later".to_owned(),
        Outcome::StackOverflow => {
            format!("overflows its {} bytes of stack: recurse less", limits.stack_bytes_max)
        }
        Outcome::TooLarge(what) => {
            let (state, output) = (limits.state_bytes_max, limits.output_bytes_max);
            format!("answers too much ({what}): at most {state} bytes of state, {output} of output")
        }
        Outcome::NotCalled(why) => format!("was not called: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_executions_agree_by_every_bit_with_one_nan() {
        let trial = |state: u8, share: f64, fuel: u64| {
            let change = Change::SetMixture(vec![share]);
            let reason = String::new();
            let action = hm_domain::plugin::Action { change, reason, diagnostics: Vec::new() };
            let value = Some((vec![state], Output::Actions(vec![action])));
            Trial(vec![("step", Reply { outcome: Outcome::Ok, fuel, value })])
        };
        let same = |a: Trial, b: Trial| repeat(Some(&a), Some(&b)).is_ok();
        assert!(same(trial(1, 0.5, 9), trial(1, 0.5, 9)));
        assert!(same(trial(1, f64::NAN, 9), trial(1, f64::NAN, 9)));
        assert!(!same(trial(2, 0.5, 9), trial(1, 0.5, 9)));
        assert!(!same(trial(1, 0.5, 9), trial(1, 0.5_f64.next_up(), 9)));
        assert!(!same(trial(1, 0.5, 9), trial(1, 0.5, 8)));
        assert!(!same(trial(1, 0.0, 9), trial(1, -0.0, 9)));
    }
}
