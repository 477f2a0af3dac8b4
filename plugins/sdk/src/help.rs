//! Short ways to read observations and to write actions.

use crate::{Action, Change, Observation};

impl Observation {
    /// Values of a column, one per domain where present. Of weight columns see
    /// [`Observation::layers`].
    ///
    /// # Errors
    /// When the column was not shown: the plugin did not ask for it.
    pub fn column(&self, name: &str) -> Result<&[Option<f64>], String> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .map(|column| column.values.as_slice())
            .ok_or_else(|| format!("column `{name}` was not shown: name it in COLUMNS"))
    }

    /// Values of a weight column (`weight_std.KIND`, `weight_norm.KIND`), one per layer from the first.
    /// None where the weights were not measured, which is so at every step at which no plugin that asks
    /// is called, and for a kind that the model does not have.
    pub fn layers(&self, name: &str) -> Option<Vec<f64>> {
        self.columns.iter().find(|column| column.name == name)?.values.iter().copied().collect()
    }

    /// Per domain its mean training loss of the step in nats per token. None where it had no tokens, and
    /// where what came out is not a number: a plugin's state must not remember that. Needs the columns
    /// `loss_sum` and `loss_tokens`.
    ///
    /// # Errors
    /// When one of the columns was not shown.
    pub fn mean_losses(&self) -> Result<Vec<Option<f64>>, String> {
        let tokens = self.column("loss_tokens")?;
        let mean = |(sum, tokens): (&Option<f64>, &Option<f64>)| match (sum, tokens) {
            (Some(sum), Some(tokens)) if *tokens > 0.0 => {
                Some(sum / tokens).filter(|loss| loss.is_finite())
            }
            _ => None,
        };
        Ok(self.column("loss_sum")?.iter().zip(tokens).map(mean).collect())
    }
}

impl Action {
    /// Asks for sampling shares, one per domain, on any positive scale.
    pub fn set_mixture(shares: Vec<f64>, reason: impl Into<String>) -> Action {
        Action::of(Change::SetMixture(shares), reason)
    }

    /// Asks for loss weights, one per domain.
    pub fn set_loss_weights(weights: Vec<f64>, reason: impl Into<String>) -> Action {
        Action::of(Change::SetLossWeights(weights), reason)
    }

    /// Asks for a validation at the next boundary.
    pub fn validate(reason: impl Into<String>) -> Action {
        Action::of(Change::Validate, reason)
    }

    /// Changes nothing: only the reason is kept.
    pub fn note(reason: impl Into<String>) -> Action {
        Action::of(Change::Note, reason)
    }

    /// The same with a named number that explains it.
    pub fn with(mut self, name: &str, value: f64) -> Action {
        self.diagnostics.push((name.to_owned(), value));
        self
    }

    fn of(change: Change, reason: impl Into<String>) -> Action {
        Action { change, reason: reason.into(), diagnostics: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, ObservationKind};

    #[test]
    fn columns_are_read_by_name_and_mean_losses_skip_domains_without_tokens() {
        let column = |name: &str, values: [Option<f64>; 3]| Column {
            name: name.to_owned(),
            values: values.to_vec(),
        };
        let mut seen = Observation {
            kind: ObservationKind::Step,
            attempt: 0,
            step: 0,
            tokens: 8,
            learning_rate: 0.0,
            loss: 2.0,
            gradient_norm: 1.0,
            mixture_version: 0,
            shares: vec![1.0; 3],
            columns: vec![
                column("loss_sum", [Some(8.0), None, Some(3.0)]),
                column("loss_tokens", [Some(4.0), Some(0.0), Some(0.0)]),
            ],
        };
        seen.columns.insert(0, column("weight_std.q_proj", [0.5, 0.25, 2.0].map(Some)));
        assert_eq!(seen.layers("weight_std.q_proj"), Some(vec![0.5, 0.25, 2.0]));
        assert_eq!(seen.layers("weight_std.k_proj"), None);
        assert_eq!(seen.mean_losses(), Ok(vec![Some(2.0), None, None]));
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            seen.columns[1].values[0] = Some(odd);
            assert_eq!(seen.mean_losses(), Ok(vec![None; 3]));
        }
        seen.columns.pop();
        assert!(seen.mean_losses().unwrap_err().contains("`loss_tokens`"));
    }
}
