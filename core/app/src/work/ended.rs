//! What a person can do with a run that is over: look at it, use its weights, train them further.

use std::path::PathBuf;

use anyhow::Result;
use hm_domain::event::Ending;
use hm_domain::id::RunId;
use hm_store::Store;

use crate::run_file::typed_again::typed_beside;
use crate::weights::good_first;
use crate::workplace::Workplace;

/// An ended run, as far as its weights go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    id: RunId,
    /// Newest checkpoint on this machine from which a step has given numbers, else the newest, and its step.
    checkpoint: Option<(u64, PathBuf)>,
}

impl Ended {
    /// Of this run.
    pub(crate) async fn of(workplace: &Workplace, store: &Store, id: RunId) -> Result<Ended> {
        let folder = workplace.checkpoints_of(id);
        let mut saved = store.checkpoints(id).await?;
        good_first(&mut saved);
        let here = saved.iter().find_map(|row| {
            let step = row["step"].as_u64()?;
            let path = folder.join(row["folder"].as_str()?);
            path.is_dir().then_some((step, path))
        });
        Ok(Ended { id, checkpoint: here })
    }

    /// Of a run without weights that anybody could use.
    pub(crate) fn unsaved(id: RunId) -> Ended {
        Ended { id, checkpoint: None }
    }

    /// What is told when it ends.
    pub(crate) fn sentences(&self, ending: Ending, last_loss: Option<f64>) -> Vec<String> {
        let id = self.id.to_string();
        let mut said: Vec<String> =
            last_loss.iter().map(|loss| format!("loss of its last step: {loss:.4}")).collect();
        if let Some((step, folder)) = &self.checkpoint {
            said.push(format!("weights of step {step}: {}", folder.display()));
            // Those of a run that failed may be what it failed of.
            if matches!(ending, Ending::Completed | Ending::Stopped) {
                let generate = typed_beside(&["generate", &id, "--prompt", "TEXT"]);
                let export = typed_beside(&["export", &id, "--output", "FOLDER"]);
                said.push(format!("use them with: {generate}"));
                said.push(format!("or with:       {export}"));
            }
        }
        said.push(format!("check it with: {}", typed_beside(&["audit", &id])));
        said
    }

    /// How to go on after `ending`, beside beginning anew: follows upon that.
    pub(crate) fn ways_on(&self, ending: &str) -> String {
        let id = self.id.to_string();
        let fork = |step: u64| {
            let step = step.to_string();
            typed_beside(&["runs", "fork", &id, "--at", &step, "-c", "FILE"])
        };
        match (ending, &self.checkpoint) {
            ("completed" | "stopped", Some((step, _))) => format!(
                "; to go on with it in a run of another name, with other training.steps: {}",
                fork(*step)
            ),
            ("completed" | "stopped", None) => String::new(),
            // Its newest weights may be what it failed of.
            (_, Some((step, _))) => format!(
                ": change first what it failed of, such as training.learning_rate, and go on from its \
                 checkpoint of step {step} in a run of another name: {}",
                fork(*step)
            ),
            (_, None) => {
                ": change first what it failed of, such as training.learning_rate; it has no \
                 checkpoint"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(checkpoint: Option<u64>) -> Ended {
        let checkpoint = checkpoint.map(|step| (step, PathBuf::from(format!("/d/step-{step}"))));
        Ended { id: RunId::SYSTEM, checkpoint }
    }

    #[test]
    fn run_that_failed_is_not_to_be_gone_on_with_as_it_was() {
        let text = ended(Some(40)).ways_on("failed");
        for due in ["training.learning_rate", "of step 40", "--at 40 -c FILE"] {
            assert!(text.contains(due), "{text}");
        }
        let text = ended(None).ways_on("failed");
        assert!(text.contains("no checkpoint") && !text.contains("fork"), "{text}");
    }

    #[test]
    fn nothing_is_forked_where_nothing_is_saved() {
        assert_eq!(ended(None).ways_on("stopped"), "");
        let text = ended(Some(9)).ways_on("completed");
        assert!(text.contains("hm runs fork") && text.contains("--at 9"), "{text}");
        let said = ended(None).sentences(Ending::Stopped, None);
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn success_says_its_loss_its_weights_and_what_to_do_with_them() {
        let said = ended(Some(20)).sentences(Ending::Completed, Some(5.25)).join("\n");
        for due in
            ["last step: 5.2500", "step 20: /d/step-20", "hm generate ", "hm export ", "hm audit "]
        {
            assert!(said.contains(due), "{due}: {said}");
        }
        let said = ended(Some(20)).sentences(Ending::Failed, None).join("\n");
        assert!(said.contains("step 20") && !said.contains("hm generate"), "{said}");
    }
}
