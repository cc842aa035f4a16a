//! Tokenised pieces put together to prompts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::names::Names;
use super::template::{Part, Template};
use super::window::Window;
use super::{Hybrid, Level, SOFT_TOKEN_ID, Soft, SoftKind};
use crate::error::{Context, Error, Result};
use crate::models::llama::TokenId;
use crate::random::Random;
use crate::tokenizer::Tokenizer;

/// What all prompts of one recommender have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptOptions {
    /// How much history.
    pub window: Window,
    /// Most tokens of the prompt and the longest answer it offers.
    pub max_prompt_tokens: usize,
    /// A longer title is cut to this many tokens, in the prompt and in the answer.
    pub max_title_tokens: usize,
    /// Begins every prompt, if the language model wants it.
    pub bos_token_id: Option<TokenId>,
    /// Ends every answer.
    pub end_token_id: TokenId,
    /// Candidates are ranked by pointing at their tokens behind a prompt that does not list them; a
    /// name is written behind one that does. At the level of items that answer begins with its item's
    /// token, as every item of the prompt has one. The paper's answer is the name alone.
    pub pointer: bool,
}

impl Default for PromptOptions {
    fn default() -> Self {
        Self {
            window: Window::default(),
            max_prompt_tokens: 1024,
            max_title_tokens: 24,
            bos_token_id: None,
            end_token_id: 0,
            pointer: false,
        }
    }
}

impl PromptOptions {
    /// Whether answers of this level begin with an item's token.
    pub fn points(&self, level: Level) -> bool {
        self.pointer && level >= Level::Item
    }
}

/// What one prompt is about. Items and behaviours are places in their lists.
#[derive(Clone, Copy, Debug)]
pub struct PromptRequest<'a> {
    /// The wording, a place in the list of templates.
    pub template: usize,
    /// What stands behind the names.
    pub level: Level,
    /// (item, behaviour), oldest first.
    pub history: &'a [(u32, u32)],
    /// The behaviour asked for.
    pub target_behaviour: u32,
    /// The items to choose among, each once.
    pub candidates: &'a [u32],
    /// Whether the prompt names them: who points need not read what is pointed at.
    pub listed: bool,
    /// Orders the candidates: the same seed and number, the same order.
    pub seed: u64,
    /// For training: the place among `candidates` of the answer to append.
    pub answer: Option<usize>,
}

/// Makes the prompts of one catalogue, one list of behaviours and several wordings.
#[derive(Clone, Debug)]
pub struct PromptBuilder {
    names: Names,
    wordings: Vec<Wording>,
    options: PromptOptions,
}

/// A template, tokenised.
#[derive(Clone, Debug)]
struct Wording {
    head: Vec<TokenId>,
    history: Vec<Entry>, // by behaviour
    history_separator: Vec<TokenId>,
    history_empty: Vec<TokenId>,
    question: Vec<Vec<Piece>>, // by behaviour
    listing: Vec<TokenId>,
    candidate: Vec<Piece>,
    candidate_separator: Vec<TokenId>,
    closing: Vec<TokenId>,
}

/// What is written of the events that follow each other on one item: it is named once.
#[derive(Clone, Debug)]
struct Entry {
    before: Vec<Piece>,
    /// The behaviour of the first event.
    behaviour: Vec<Piece>,
    /// The behaviour of an event behind the first, a space before it.
    further: Vec<Piece>,
    after: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Tokens(Vec<TokenId>),
    BehaviourToken(u32),
    Title,
    ItemToken,
}

impl PromptBuilder {
    /// Prompts in the wording of any of `templates`, about the items of `names`.
    ///
    /// # Errors
    /// No template, no behaviour, a template that alone fills a prompt, a window that keeps more than it
    /// holds.
    pub fn new(
        tokenizer: &Arc<Tokenizer>,
        templates: &[Template],
        behaviours: &[String],
        options: PromptOptions,
    ) -> Result<Self> {
        options.window.check()?;
        for (field, found) in [("templates", templates.len()), ("behaviours", behaviours.len())] {
            if found == 0 {
                return Err(Error::argument("prompt", field, "at least one", "none"));
            }
        }
        let wording = |template| Wording::new(tokenizer, template, behaviours, &options);
        let builder = Self {
            names: Names::new(tokenizer.clone(), options.max_title_tokens),
            wordings: templates.iter().map(wording).collect::<Result<_>>()?,
            options,
        };
        for template in 0..templates.len() {
            for target_behaviour in 0..behaviours.len() as u32 {
                builder.check_room(template, target_behaviour)?;
            }
        }
        Ok(builder)
    }

    /// A template that fills the prompt alone would refuse every request.
    fn check_room(&self, template: usize, target_behaviour: u32) -> Result<()> {
        let request = PromptRequest {
            template,
            level: Level::Text,
            history: &[],
            target_behaviour,
            candidates: &[],
            listed: false,
            seed: 0,
            answer: None,
        };
        match self.build(&request) {
            Err(Error::InputTooLong { limit, found, .. }) => {
                let expected = format!("room for more than template {template}'s own {found}");
                Err(Error::argument("prompt", "max_prompt_tokens", expected, limit))
            }
            built => built.map(|_| ()),
        }
    }

    /// The items it knows; more may be added at any time.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// [`Names::push`] adds an item here.
    pub fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// What it was made with.
    pub fn options(&self) -> &PromptOptions {
        &self.options
    }

    /// The prompt of a request, with as much history as fits.
    ///
    /// # Errors
    /// An index outside its list; candidates that fill the prompt without any history.
    pub fn build(&self, request: &PromptRequest<'_>) -> Result<Hybrid> {
        let wording = get("template", &self.wordings, request.template)?;
        let PromptRequest { level, history, candidates, .. } = *request;
        let points = self.options.points(level);

        let mut order: Vec<usize> = (0..candidates.len()).collect();
        Random::new(request.seed).shuffle(&mut order, candidates.len());
        let mut tail = Writer::new(level);
        let target = request.target_behaviour as usize;
        tail.pieces(get("target_behaviour", &wording.question, target)?, None);
        let mut answer_tokens = 0;
        if request.listed {
            tail.tokens(&wording.listing);
        }
        for (nth, &place) in order.iter().enumerate().filter(|_| request.listed) {
            if nth > 0 {
                tail.tokens(&wording.candidate_separator);
            }
            let item = candidates[place];
            let name = self.names.tokens(item).at(|| "candidates")?;
            answer_tokens = answer_tokens.max(name.len() + 1 + usize::from(points));
            let kind = SoftKind::Candidate { item, place };
            tail.pieces(&wording.candidate, Some((name, kind)));
        }
        tail.tokens(&wording.closing);

        let limit = self.options.max_prompt_tokens;
        let found = wording.head.len() + tail.ids.len() + answer_tokens;
        let Some(room) = limit.checked_sub(found) else {
            return Err(Error::InputTooLong { what: "the prompt without history", limit, found });
        };
        let start = self.first_entry(wording, history, level, room)?;

        let mut prompt = Writer::new(level);
        prompt.tokens(&wording.head);
        if start == history.len() && wording.history_empty.len() <= room {
            prompt.tokens(&wording.history_empty);
        }
        let mut place = 0;
        for events in entries(&history[start..]) {
            if place > 0 {
                prompt.tokens(&wording.history_separator);
            }
            self.entry(&mut prompt, wording, events, place)?;
            place += events.len();
        }
        prompt.join(tail);

        let asked = prompt.ids.len();
        let mut hybrid = Hybrid {
            answer: asked..asked,
            token_ids: prompt.ids,
            soft: prompt.soft,
            history: start..history.len(),
            history_rows: prompt.named.into_iter().map(|(row, item, _)| (row, item)).collect(),
            event_rows: prompt.events,
            candidates: order,
        };
        if let Some(place) = request.answer {
            let item = *get("answer", candidates, place)?;
            if points {
                hybrid.point(item, place);
            }
            hybrid.token_ids.extend_from_slice(self.names.tokens(item)?);
            hybrid.token_ids.push(self.options.end_token_id);
            hybrid.answer = asked..hybrid.token_ids.len();
        }
        Ok(hybrid)
    }

    /// Where the history begins that fits into `room` tokens.
    fn first_entry(
        &self,
        wording: &Wording,
        history: &[(u32, u32)],
        level: Level,
        room: usize,
    ) -> Result<usize> {
        let window = &self.options.window;
        let first = Window::recent(history.len());
        let kept = &history[first..];
        let tokens = entries(kept).map(|events| {
            // Counted by what it would write. The first entry pays for a separator it does not use.
            let mut writer = Writer::new(level);
            writer.tokens(&wording.history_separator);
            self.entry(&mut writer, wording, events, 0)?;
            Ok(writer.ids.len())
        });
        let tokens = tokens.collect::<Result<Vec<usize>>>()?;
        let dropped = entries(kept).take(window.first(&tokens, room));
        Ok(first + dropped.map(<[_]>::len).sum::<usize>())
    }

    /// `place`: of the first of these events on one item.
    fn entry(
        &self,
        writer: &mut Writer,
        wording: &Wording,
        events: &[(u32, u32)],
        place: usize,
    ) -> Result<()> {
        let of = |behaviour: u32| get("history.behaviour", &wording.history, behaviour as usize);
        let Some((&(item, behaviour), further)) = events.split_first() else { return Ok(()) };
        let (entry, name) = (of(behaviour)?, self.names.tokens(item).at(|| "history")?);
        let last = further.last().map_or(behaviour, |&(_, behaviour)| behaviour);
        let about = Some((name, SoftKind::History { item, place, behaviour: last }));
        writer.pieces(&entry.before, about);
        writer.pieces(&entry.behaviour, about);
        for &(_, behaviour) in further {
            writer.pieces(&of(behaviour)?.further, about);
        }
        writer.pieces(&entry.after, about);
        Ok(())
    }
}

impl Wording {
    fn new(
        tokenizer: &Tokenizer,
        template: &Template,
        behaviours: &[String],
        options: &PromptOptions,
    ) -> Result<Self> {
        let words = |text: &str| match text {
            "" => Ok(Vec::new()),
            text => tokenizer.encode_within(text, false),
        };
        let piece = |part: &Part, behaviour: u32, name: &str, spaced: bool| {
            Ok(match part {
                Part::Text(text) => Piece::Tokens(words(text)?),
                Part::Behaviour { .. } if name.is_empty() => Piece::Tokens(Vec::new()),
                Part::Behaviour { spaced: own } => {
                    let text = format!("{}{name}", if *own || spaced { " " } else { "" });
                    Piece::Tokens(tokenizer.encode_within(&text, true)?)
                }
                Part::BehaviourToken => Piece::BehaviourToken(behaviour),
                Part::Title => Piece::Title,
                Part::ItemToken => Piece::ItemToken,
            })
        };
        let pieces = |parts: &[Part], behaviour: u32, name: &str, spaced: bool| {
            let pieces = parts.iter().map(|part| piece(part, behaviour, name, spaced));
            pieces.collect::<Result<Vec<Piece>>>()
        };
        let entry = |behaviour: u32, name: &str| -> Result<Entry> {
            let parts = &template.history_entry.0;
            let is_behaviour =
                |part: &Part| matches!(part, Part::Behaviour { .. } | Part::BehaviourToken);
            let first = parts.iter().position(is_behaviour).unwrap_or(0);
            let end = parts.iter().rposition(is_behaviour).map_or(first, |last| last + 1);
            let own = &parts[first..end];
            Ok(Entry {
                before: pieces(&parts[..first], behaviour, name, false)?,
                behaviour: pieces(own, behaviour, name, false)?,
                further: pieces(own, behaviour, name, true)?,
                after: pieces(&parts[end..], behaviour, name, false)?,
            })
        };
        let mut head: Vec<TokenId> = options.bos_token_id.into_iter().collect();
        head.extend(words(&template.instruction)?);
        let (mut history, mut question) = (Vec::new(), Vec::new());
        for (behaviour, name) in (0..).zip(behaviours) {
            let known = template.behaviours.get(name);
            let (past, target) = match known {
                Some(words) => (words.history.as_str(), words.target.as_str()),
                None => (name.as_str(), name.as_str()),
            };
            history.push(entry(behaviour, past)?);
            question.push(pieces(&template.question.0, behaviour, target, false)?);
        }
        Ok(Self {
            head,
            history,
            history_separator: words(&template.history_separator)?,
            history_empty: words(&template.history_empty)?,
            question,
            listing: words(&template.candidates)?,
            candidate: pieces(&template.candidate_entry.0, 0, "", false)?,
            candidate_separator: words(&template.candidate_separator)?,
            closing: words(&template.closing)?,
        })
    }
}

/// Events that follow each other on one item, together.
fn entries(history: &[(u32, u32)]) -> impl Iterator<Item = &[(u32, u32)]> {
    history.chunk_by(|(item, _), (next, _)| item == next)
}

/// A prompt as it grows.
struct Writer {
    level: Level,
    ids: Vec<TokenId>,
    soft: Vec<Soft>,
    /// Of each item of the history: the position before it is named, the item, its place.
    named: Vec<(usize, u32, usize)>,
    /// Where each item of the history stands.
    events: Vec<usize>,
}

impl Writer {
    fn new(level: Level) -> Self {
        Self { level, ids: Vec::new(), soft: Vec::new(), named: Vec::new(), events: Vec::new() }
    }

    fn tokens(&mut self, tokens: &[TokenId]) {
        self.ids.extend_from_slice(tokens);
    }

    fn soft(&mut self, from: Level, kind: SoftKind) {
        if self.level >= from {
            self.soft.push(Soft { position: self.ids.len(), kind });
            self.ids.push(SOFT_TOKEN_ID);
        }
    }

    /// `item`: the name and the soft token of the item the pieces are about.
    fn pieces(&mut self, pieces: &[Piece], item: Option<(&[TokenId], SoftKind)>) {
        for piece in pieces {
            if let (
                Piece::Title | Piece::ItemToken,
                Some((_, SoftKind::History { item, place, .. })),
            ) = (piece, item)
                && self.named.last().is_none_or(|(.., last)| *last != place)
                && let Some(row) = self.ids.len().checked_sub(1)
            {
                self.named.push((row, item, place));
            }
            match (piece, item) {
                (Piece::Tokens(tokens), _) => self.tokens(tokens),
                (Piece::BehaviourToken(behaviour), _) => {
                    self.soft(Level::Behaviour, SoftKind::Behaviour(*behaviour));
                }
                (Piece::Title, Some((name, kind))) => {
                    self.tokens(name);
                    self.event(kind, self.level < Level::Item);
                }
                (Piece::ItemToken, Some((_, kind))) => {
                    self.soft(Level::Item, kind);
                    self.event(kind, self.level >= Level::Item);
                }
                (Piece::Title | Piece::ItemToken, None) => {}
            }
        }
    }

    /// The last row is where an item of the history stands.
    fn event(&mut self, kind: SoftKind, here: bool) {
        if let (true, SoftKind::History { .. }, Some(row)) =
            (here, kind, self.ids.len().checked_sub(1))
        {
            self.events.push(row);
        }
    }

    fn join(&mut self, tail: Self) {
        let moved = self.ids.len();
        self.ids.extend(tail.ids);
        let soft = tail.soft.into_iter();
        self.soft.extend(soft.map(|soft| Soft { position: soft.position + moved, ..soft }));
    }
}

fn get<'a, T>(field: &'static str, list: &'a [T], place: usize) -> Result<&'a T> {
    list.get(place).ok_or_else(|| {
        Error::argument("prompt", field, format!("a place below {}", list.len()), place)
    })
}
