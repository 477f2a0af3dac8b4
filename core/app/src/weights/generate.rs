//! `hm generate`: a text continued, streamed to the terminal as it comes.

use std::io::Read as _;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hm_data::Tokenizer;
use hm_train::{Choice, Chooser, Devices, Generator};

use crate::cli::GenerateArgs;
use crate::interrupt::Interrupt;
use crate::progress;
use crate::terminal;
use crate::weights::chat;
use crate::weights::find;
use crate::workplace::Workplace;

/// Why a text ended, as `--json` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum End {
    /// The model said so.
    #[serde(rename = "end-mark")]
    Mark,
    /// As many tokens as were asked for.
    Tokens,
    /// The model's sequence holds no more.
    Full,
    /// Ctrl-C.
    Interrupted,
}

pub(crate) fn generate(workplace: &Workplace, args: &GenerateArgs) -> Result<u8> {
    let GenerateArgs { temperature, top_k, top_p, seed, .. } = *args;
    let chooser = Chooser::new(Choice { temperature, top_k, top_p, seed })?;
    let found = find(workplace, &args.source, args.tokenizer.as_deref())?;
    let tokenizer = found
        .tokenizer
        .as_ref()
        .context("there is no tokenizer with these weights: name one with --tokenizer")?;
    let (tokenizer, _) = Tokenizer::read(tokenizer)?;
    let prompt = prompt(args, &tokenizer)?;
    let devices = Devices::open(&args.device.parse()?)?;
    if devices.count() > 1 {
        bail!("{devices}: a text is continued on one device; name one, such as cuda:0");
    }
    let bar = progress::bar(0, "loading weights");
    let (generator, step) = found.newest_whole(|source| {
        Generator::open(source, &devices, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        })
    })?;
    bar.finish_and_clear();
    let of_step = step.map_or(String::new(), |step| format!("; weights of step {step}"));
    eprintln!("{devices}{of_step}");
    let room = generator.room();
    if prompt.len() >= room {
        let length = prompt.len();
        bail!("the prompt has {length} tokens and the model's sequence holds {room}: shorten it");
    }
    let mut text = Text { tokenizer: &tokenizer, ids: Vec::new(), shown: 0, quiet: args.json };
    let interrupt = Interrupt::install()?;
    let start = Instant::now();
    let end = text.generate(generator, chooser, &prompt, args, &interrupt)?;
    let tokens_per_second = text.ids.len() as f64 / start.elapsed().as_secs_f64();
    if args.json {
        let shown = serde_json::json!({
            "prompt_tokens": prompt, "tokens": text.ids, "text": text.whole()?, "end": end,
            "step": step,
            "tokens_per_second": tokens_per_second,
        });
        println!("{shown}");
    } else {
        println!();
        eprintln!("{} tokens, {tokens_per_second:.1} tokens/s", text.ids.len());
    }
    Ok(if end == End::Interrupted { 130 } else { 0 })
}

fn prompt(args: &GenerateArgs, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let text = match &args.prompt {
        Some(text) => text.clone(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input is no text")?;
            text.trim_end_matches('\n').to_owned()
        }
    };
    let ids = match args.chat {
        Some(template) => template.ask(tokenizer, &text)?,
        None => tokenizer.encode_open(&text)?,
    };
    if ids.is_empty() {
        bail!("the prompt is empty: give some text to go on with");
    }
    Ok(ids)
}

/// What was added so far, and how much of it has been shown.
struct Text<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    shown: usize,
    quiet: bool,
}

impl Text<'_> {
    fn generate(
        &mut self,
        mut generator: Generator,
        mut chooser: Chooser,
        prompt: &[u32],
        args: &GenerateArgs,
        interrupt: &Interrupt,
    ) -> Result<End> {
        let (_, end_mark) = self.tokenizer.end_of_document();
        let ends_at = args.chat.and_then(chat::Template::ends_at);
        let mut logits = generator.feed(prompt)?;
        loop {
            let id = chooser.next(&logits);
            if id == end_mark {
                return Ok(End::Mark);
            }
            self.ids.push(id);
            if let Some(place) = ends_at.and_then(|end| self.whole().ok()?.find(end)) {
                self.show(Some(place))?;
                return Ok(End::Mark);
            }
            self.show(None)?;
            if self.ids.len() == args.tokens as usize {
                return Ok(End::Tokens);
            }
            if interrupt.raised() {
                return Ok(End::Interrupted);
            }
            if generator.room() == 0 {
                return Ok(End::Full);
            }
            logits = generator.feed(&[id])?;
        }
    }

    fn whole(&self) -> Result<String> {
        Ok(self.tokenizer.decode(&self.ids)?)
    }

    /// Prints what is new, up to `until`. A character whose bytes are not all there yet waits.
    fn show(&mut self, until: Option<usize>) -> Result<()> {
        let whole = self.whole()?;
        let ready = whole.trim_end_matches('\u{fffd}').len();
        let ready = until.map_or(ready, |until| until.min(ready));
        if !self.quiet && ready > self.shown {
            terminal::product(&whole[self.shown..ready]);
            terminal::flush();
            self.shown = ready;
        }
        Ok(())
    }
}
