//! The counting protocol, checked exhaustively: every order in which requests, answers, failures and deliveries can
//! occur within a small scope, not a sample of them.
//!
//! # What is modelled
//!
//! One chain of items: one topic partition and one bucket, with the first item and the overflow items after it. Chains
//! share nothing, so a chain that is right by itself is right beside others. Every pattern of products over the offsets
//! of the topic partition is a start, including offsets whose records do not belong to the chain.
//!
//! - **Kafka**: a batch starts at the committed offset or any earlier one and ends anywhere after it. A batch that was
//!   counted is committed. One that was not is redelivered with any boundaries, and so may one that was.
//! - **Pollers**: several at once, as in a rebalance while the old poller's invocation still runs. An invocation may
//!   die at any point. A poller may remember any part of what was ever true of the chain, or nothing.
//! - **The network**: a request that its sender waits for is handled at any time or never, and its answer arrives at
//!   any time later or never. The sender may send it again, as the SDK does, or give up. What was sent once may be
//!   handled at any later time, any number of times, in any order.
//! - **DynamoDB**: an item changes as a whole or not at all; the condition is checked before the size.
//!
//! Pollers run the product's own code: [`Chain`] decides the next write and takes the answer. Only its limits differ:
//! two products in an update and three in an item stand for 200 products and 400 KB.
//!
//! An update that closes its item may be any update: the product's rule for large items is one of these choices.
//!
//! Not modelled: time. A record that is stale or ahead of the clock in one delivery and valid in another is a
//! different record to the protocol.
//!
//! # Why the scope suffices
//!
//! The protocol compares offsets and looks at one item at a time. A miscount takes an update that is applied although
//! some of its clicks are counted, or a `last_offset` that passes a click that is not: two updates that overlap without
//! being equal, and an item that fills up between them. Four offsets hold a full update, a click beside it, and with two
//! products an item a second overflow item; five hold two full updates and another click. Two pollers are the old one
//! and the new one of a rebalance, and every invocation before them lives on as requests in the network, of which there
//! is no limit. Each of five deliberate breaks is found within four offsets.
//!
//! The breaks here change the answers and the memory of a poller, and the requests it sends. `make breaks` makes the
//! same breaks in the product's code and runs this model and the fault schedules against each.

use std::{env, io::Write, time::Instant};

use hot_products::protocol::{Chain, ChainWrite, Click, Cursor, Limits, UpdateOutcome, uncounted_after};
use stateright::{Checker, HasDiscoveries, Model, Property};

/// The most offsets and, since every item of a chain counts a click at least, items.
const MAX_OFFSETS: usize = 6;
/// The most pollers at a time.
const MAX_POLLERS: usize = 3;
/// Two products in an update stand for 200. An update closes its item if the one before it consumed a write unit; the
/// model chooses whether it did.
const LIMITS: Limits = Limits { max_products_per_update: 2, close_from_write_units: 1 };

/// How far the model goes.
#[derive(Clone, Copy, Debug)]
struct Scope {
    /// The source's records.
    offsets: usize,
    /// Pollers at a time.
    pollers: usize,
    /// How many products fill an item: what stands for 400 KB.
    item_products: u8,
    /// Whether any update may close its item: what stands for every rule of when an item is large enough.
    closes: bool,
    /// Whether a request that can never be applied any more stays in the network. It changes nothing there but the
    /// number of states.
    keep_the_dead: bool,
}

/// What is checked. More offsets, more pollers, and the dead: not all at once, for that multiplies.
const SCOPES: [Scope; 5] = [
    Scope { offsets: 5, pollers: 2, item_products: 3, closes: false, keep_the_dead: false },
    Scope { offsets: 4, pollers: 2, item_products: 2, closes: false, keep_the_dead: false },
    Scope { offsets: 3, pollers: 2, item_products: 2, closes: true, keep_the_dead: false },
    Scope { offsets: 4, pollers: 3, item_products: 3, closes: false, keep_the_dead: false },
    Scope { offsets: 3, pollers: 2, item_products: 2, closes: false, keep_the_dead: true },
];

/// What `make model` checks instead, in minutes and with some gigabytes.
const LARGE_SCOPES: [Scope; 3] = [
    Scope { offsets: 5, pollers: 2, item_products: 2, closes: false, keep_the_dead: false },
    Scope { offsets: 4, pollers: 2, item_products: 2, closes: true, keep_the_dead: false },
    Scope { offsets: 4, pollers: 3, item_products: 2, closes: false, keep_the_dead: false },
];

/// What is broken on purpose, to see whether the checker notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// Updates have no condition.
    NoCondition,
    /// An update sets `last_offset` to the end of its batch, not of its piece.
    LastOffsetTooFar,
    /// What a refused update held is taken for counted, whatever `ALL_OLD` says.
    AllOldIgnored,
    /// Counting goes on in the overflow item while the full item stays open.
    FullItemNotClosed,
    /// What is remembered of closed items is which, and not how far they have counted.
    OffsetForgotten,
    /// One that `make breaks` has made in the product's code.
    InTheCode,
}

/// One pattern of products over the offsets, and what follows from it.
#[derive(Debug)]
struct Topic {
    /// The product of each offset; `None` where the record is none of this chain's clicks.
    records: Vec<Option<u32>>,
    /// The clicks.
    clicks: Vec<Click>,
    /// How many products the clicks at a set of offsets are on.
    products: [u8; 1 << MAX_OFFSETS],
}

impl Topic {
    fn new(records: Vec<Option<u32>>) -> Self {
        let clicks: Vec<Click> = (0..)
            .zip(&records)
            .filter_map(|(offset, product)| product.map(|product| Click { offset, product }))
            .collect();
        let mut topic = Self { records, clicks, products: [0; 1 << MAX_OFFSETS] };
        for mask in 0..topic.products.len() {
            let clicks = topic.clicks.iter().filter(|click| mask >> click.offset & 1 == 1);
            let products = clicks.fold(0_u32, |products, click| products | 1 << click.product);
            topic.products[mask] = products.count_ones() as u8;
        }
        topic
    }

    /// The clicks from one offset until before another.
    fn clicks(&self, from: usize, end: usize) -> &[Click] {
        let position = |offset: usize| self.clicks.partition_point(|click| click.offset < offset as i64);
        &self.clicks[position(from)..position(end)]
    }

    /// The offsets of clicks, one bit each.
    fn mask(&self, offsets: std::ops::RangeInclusive<u8>) -> u8 {
        offsets.filter(|offset| self.records[usize::from(*offset)].is_some()).fold(0, |mask, offset| mask | 1 << offset)
    }
}

/// All patterns of products over `offsets` offsets, up to renaming: a product has a number one higher than those
/// before it, or one that came before.
fn patterns(offsets: usize) -> Vec<Vec<Option<u32>>> {
    let mut patterns = vec![(Vec::new(), 0)];
    for _ in 0..offsets {
        patterns = patterns
            .into_iter()
            .flat_map(|(records, products)| {
                std::iter::once(None).chain((0..=products).map(Some)).map(move |product| {
                    let mut records = records.clone();
                    records.push(product);
                    (records, products.max(product.map_or(0, |product| product + 1)))
                })
            })
            .collect();
    }
    patterns.into_iter().map(|(records, _)| records).collect()
}

/// An item of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Item {
    /// `last_offset`; -1 while there is no item.
    last_offset: i8,
    /// `closed`.
    closed: bool,
    /// The offsets that it has counted, one bit each. What stands for the counters.
    counted: u8,
    /// Those that it has counted more than once.
    repeated: u8,
}

type Items = [Item; MAX_OFFSETS];

const NO_ITEM: Item = Item { last_offset: -1, closed: false, counted: 0, repeated: 0 };

/// A write as it is in the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Request {
    /// Count the clicks from `first` to `last`, and set `last_offset` to `moves_to`, which is `last` but in a break.
    /// Then close the item, if it is the one update more that a large item takes.
    Add { item: u8, first: u8, last: u8, moves_to: u8, closes: bool },
    /// Close the item.
    Close { item: u8 },
}

/// DynamoDB's answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Answer {
    /// To an update. The write units of one that counted are chosen when the poller takes the answer.
    Updated(UpdateOutcome),
    Closed {
        last_offset: i8,
    },
    NothingToClose,
}

/// A poller, with the invocation that it has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Poller {
    Idle,
    /// It has sent `request` for the clicks from `from` on, and waits for the answer or has it.
    Busy {
        chain: Chain,
        /// The first click that is not known to be counted.
        from: u8,
        /// The offset after the batch.
        end: u8,
        request: Request,
        answer: Option<Answer>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    topic: u16,
    /// The offset that Kafka delivers next.
    committed: u8,
    items: Items,
    /// In order: which poller is which makes no difference.
    pollers: [Poller; MAX_POLLERS],
    /// Writes whose sender waits for them no more, and that may still be applied. In order, each once.
    late: Vec<Request>,
}

/// What a poller remembers of the chain: the first item not known to be closed, and the offset up to which clicks are
/// known to be counted; -1 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    item: u8,
    counted_through: i8,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// An idle poller gets a batch and sends its first write, to the item that it remembers.
    Deliver { start: u8, end: u8, known: Known, closes: bool },
    /// DynamoDB handles the write that a poller waits for, and answers.
    Handle { poller: usize },
    /// DynamoDB handles a write that nobody waits for.
    HandleLate { request: Request },
    /// The answer arrives, and the poller does what follows.
    GoOn { poller: usize, closes: bool },
    /// The answer is lost; the poller sends the write again.
    Retry { poller: usize },
    /// The invocation ends without success.
    Die { poller: usize },
}

struct Protocol {
    scope: Scope,
    broken: Option<Break>,
    topics: Vec<Topic>,
}

impl Protocol {
    fn new(scope: Scope, broken: Option<Break>) -> Self {
        let topics = patterns(scope.offsets).into_iter().map(Topic::new).collect();
        Self { scope, broken, topics }
    }

    fn topic(&self, state: &State) -> &Topic {
        &self.topics[usize::from(state.topic)]
    }

    /// The poller that goes on with `chain` for the clicks from `from` until before `end`; idle when all are counted.
    fn send(&self, topic: &Topic, mut chain: Chain, (from, end): (u8, u8), closes: bool) -> Poller {
        let clicks = topic.clicks(usize::from(from.min(end)), usize::from(end));
        let Some(mut write) = chain.next_write(clicks) else { return Poller::Idle };
        let Cursor { overflow, counted_through, .. } = chain.cursor();
        let Some(first) = uncounted_after(clicks, counted_through).first() else { return Poller::Idle };
        let from = first.offset as u8;
        if let ChainWrite::Update(_) = write {
            // Pollers that go on alike are one state, and whether the item is large enough to be closed is a choice.
            let cursor = Cursor { overflow, counted_through: first.offset - 1, write_units: closes.into() };
            chain = Chain::resume(LIMITS, cursor);
            write = chain.next_write(clicks).expect("the first click is not counted");
        }
        let request = match write {
            ChainWrite::Close { overflow } => Request::Close { item: overflow as u8 },
            ChainWrite::Update(update) => {
                let (item, first, last) = (update.overflow as u8, update.counts.first as u8, update.counts.last as u8);
                let moves_to = if self.broken == Some(Break::LastOffsetTooFar) { end - 1 } else { last };
                Request::Add { item, first, last, moves_to, closes: update.closes }
            }
        };
        Poller::Busy { chain, from, end, request, answer: None }
    }

    /// The write that a poller has sent last.
    fn request(poller: Poller) -> Option<Request> {
        match poller {
            Poller::Idle => None,
            Poller::Busy { request, .. } => Some(request),
        }
    }

    /// DynamoDB: what becomes of the items, and the answer.
    fn handle(&self, topic: &Topic, items: &mut Items, request: Request) -> Answer {
        match request {
            Request::Add { item, first, last, moves_to, closes } => {
                let item = &mut items[usize::from(item)];
                let exists = item.last_offset >= 0;
                // attribute_not_exists(last_offset) OR (last_offset < :first AND closed = :false)
                let allowed = !exists || (item.last_offset < first as i8 && !item.closed);
                if !allowed && self.broken != Some(Break::NoCondition) {
                    let last_offset = item.last_offset.into();
                    return Answer::Updated(UpdateOutcome::Refused { last_offset, closed: item.closed });
                }
                let clicks = topic.mask(first..=last);
                if topic.products[usize::from(item.counted | clicks)] > self.scope.item_products {
                    return Answer::Updated(UpdateOutcome::Full);
                }
                item.repeated |= item.counted & clicks;
                item.counted |= clicks;
                item.last_offset = moves_to as i8;
                item.closed |= closes;
                Answer::Updated(UpdateOutcome::Counted { write_units: 0 })
            }
            Request::Close { item } => {
                let item = &mut items[usize::from(item)];
                // attribute_exists(last_offset)
                if item.last_offset < 0 {
                    return Answer::NothingToClose;
                }
                item.closed = true;
                Answer::Closed { last_offset: item.last_offset }
            }
        }
    }

    /// What a poller does with an answer. `None` is an invocation that fails.
    fn go_on(&self, topic: &Topic, poller: Poller, closes_next: bool) -> Option<Poller> {
        let Poller::Busy { mut chain, from, end, answer: Some(answer), .. } = poller else { return None };
        match (chain.next_write(topic.clicks(usize::from(from), usize::from(end)))?, answer) {
            (ChainWrite::Update(update), Answer::Updated(outcome)) => match (outcome, self.broken) {
                (UpdateOutcome::Refused { .. }, Some(Break::AllOldIgnored)) => {
                    chain.updated(&update, UpdateOutcome::Refused { last_offset: update.counts.last, closed: false });
                }
                // As if it were closed, without the write that closes it.
                (UpdateOutcome::Full, Some(Break::FullItemNotClosed)) => chain.closed(i64::from(from) - 1),
                _ => chain.updated(&update, outcome),
            },
            (ChainWrite::Close { .. }, Answer::Closed { last_offset }) => chain.closed(last_offset.into()),
            (ChainWrite::Close { .. }, Answer::NothingToClose) => return None,
            (write, answer) => unreachable!("{answer:?} answers {write:?}"),
        }
        Some(self.send(topic, chain, (from, end), closes_next))
    }

    /// The poller's first write of a batch.
    fn deliver(&self, topic: &Topic, (start, end): (u8, u8), known: Known, closes: bool) -> Poller {
        let cursor = Cursor {
            overflow: known.item.into(),
            counted_through: known.counted_through.into(),
            write_units: closes.into(),
        };
        self.send(topic, Chain::resume(LIMITS, cursor), (start, end), closes)
    }

    /// Whether an update may close its item: both, or only the one.
    fn choices(&self) -> &'static [bool] {
        if self.scope.closes { &[false, true] } else { &[false] }
    }

    /// All that a poller may remember: of the closed items any first part, and of the item after them what it had
    /// counted at any time.
    fn known(items: &Items) -> impl Iterator<Item = Known> {
        let closed = items.iter().take_while(|item| item.closed).map(|item| item.last_offset);
        (0..).zip(std::iter::once(-1).chain(closed)).flat_map(move |(item, least)| {
            let last_offset = items.get(usize::from(item)).map_or(-1, |item| item.last_offset);
            (least..=last_offset.max(least)).map(move |counted_through| Known { item, counted_through })
        })
    }

    /// Whether the item that the poller writes to is within the chain.
    fn has_item(poller: Poller) -> bool {
        !matches!(poller, Poller::Busy { chain, .. } if chain.cursor().overflow as usize >= MAX_OFFSETS)
    }

    /// Whether the request would change an item. One that would not never will: `last_offset` only grows, a closed
    /// item stays closed and a full one full. [`Model::next_state`] checks that on every step.
    fn is_alive(&self, topic: &Topic, items: &Items, request: Request) -> bool {
        let mut after = *items;
        self.handle(topic, &mut after, request);
        after != *items
    }

    /// What a poller sent stays in the network when the poller waits for it no more.
    fn leave_behind(state: &mut State, poller: usize) {
        let request = Self::request(state.pollers[poller]);
        state.pollers[poller] = Poller::Idle;
        state.late.extend(request);
    }

    /// One state for all that behave alike.
    fn tidy(&self, state: &mut State) {
        let topic = self.topic(state);
        state.pollers.sort_unstable();
        state.late.sort_unstable();
        state.late.dedup();
        let State { late, items, pollers, .. } = state;
        late.retain(|request| {
            // What a poller waits for is handled and answered, with the answer lost, as if it were nobody's.
            !pollers.iter().any(|poller| Self::request(*poller) == Some(*request))
                && (self.scope.keep_the_dead || self.is_alive(topic, items, *request))
        });
    }

    /// One poller gets everything from `start` on, and nothing disturbs it: what is counted then. `None` when it comes
    /// to no end.
    fn undisturbed(&self, state: &State, start: u8, closes: bool) -> Option<Items> {
        let topic = self.topic(state);
        let mut items = state.items;
        let nothing = Known { item: 0, counted_through: -1 };
        let mut poller = self.deliver(topic, (start, self.scope.offsets as u8), nothing, closes);
        // An update, a refusal and a closing for each item and offset are more than enough.
        for _ in 0..3 * (MAX_OFFSETS + MAX_OFFSETS) {
            let Some(request) = Self::request(poller) else { return Some(items) };
            if !Self::has_item(poller) {
                return None;
            }
            let reply = self.handle(topic, &mut items, request);
            if let Poller::Busy { answer, .. } = &mut poller {
                *answer = Some(reply);
            }
            poller = self.go_on(topic, poller, closes)?;
        }
        None
    }
}

/// The offsets counted in `items`, and those counted more than once, in one item or in two.
fn counted(items: &[Item]) -> (u8, u8) {
    items.iter().fold((0, 0), |(counted, repeated), item| {
        (counted | item.counted, repeated | item.repeated | counted & item.counted)
    })
}

/// Each offset of `mask` once, and no other.
fn each_once(items: &[Item], mask: u8) -> bool {
    counted(items) == (mask, 0)
}

/// The bits of the offsets up to and including `last_offset`.
fn up_to(last_offset: i8) -> u8 {
    !(u8::MAX << (last_offset + 1))
}

fn any_answer(state: &State, wanted: impl Fn(&Poller, Answer) -> bool) -> bool {
    state
        .pollers
        .iter()
        .any(|poller| matches!(poller, Poller::Busy { answer: Some(answer), .. } if wanted(poller, *answer)))
}

const ONCE: &str = "no click is counted twice";
const NONE_MISSING: &str = "what is committed is counted";
const LAST_OFFSET: &str = "last_offset tells what is counted";
const GOES_ON: &str = "an undisturbed delivery counts the rest and ends";

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        (0..self.topics.len())
            .map(|topic| State {
                topic: topic as u16,
                committed: 0,
                items: [NO_ITEM; MAX_OFFSETS],
                pollers: [Poller::Idle; MAX_POLLERS],
                late: Vec::new(),
            })
            .collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let busy = state.pollers.iter().filter(|poller| **poller != Poller::Idle).count();
        if busy < self.scope.pollers {
            let offsets = self.scope.offsets as u8;
            for start in 0..=state.committed {
                for end in start + 1..=offsets {
                    for known in Self::known(&state.items) {
                        let choices = self.choices().iter();
                        steps.extend(choices.map(|closes| Step::Deliver { start, end, known, closes: *closes }));
                    }
                }
            }
        }
        for (number, poller) in state.pollers.iter().enumerate() {
            match poller {
                Poller::Idle => {}
                Poller::Busy { answer: None, .. } => {
                    steps.extend([Step::Handle { poller: number }, Step::Die { poller: number }]);
                }
                Poller::Busy { answer: Some(_), .. } => {
                    let poller = number;
                    steps.extend(self.choices().iter().map(|closes| Step::GoOn { poller, closes: *closes }));
                    steps.extend([Step::Retry { poller }, Step::Die { poller }]);
                }
            }
        }
        steps.extend(state.late.iter().map(|request| Step::HandleLate { request: *request }));
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let topic = self.topic(before);
        let mut state = before.clone();
        match step {
            Step::Deliver { start, end, mut known, closes } => {
                let idle = state.pollers.iter().position(|poller| *poller == Poller::Idle)?;
                if self.broken == Some(Break::OffsetForgotten) {
                    known.counted_through = -1;
                }
                state.pollers[idle] = self.deliver(topic, (start, end), known, closes);
                if state.pollers[idle] == Poller::Idle {
                    state.committed = state.committed.max(end);
                }
            }
            Step::Handle { poller } => {
                let request = Self::request(state.pollers[poller])?;
                let reply = self.handle(topic, &mut state.items, request);
                if let Poller::Busy { answer, .. } = &mut state.pollers[poller] {
                    *answer = Some(reply);
                }
            }
            Step::HandleLate { request } => {
                self.handle(topic, &mut state.items, request);
            }
            Step::GoOn { poller, closes } => {
                let Poller::Busy { end, .. } = state.pollers[poller] else { return None };
                let next = self.go_on(topic, state.pollers[poller], closes);
                Self::leave_behind(&mut state, poller);
                match next {
                    // Committed at once: all that a late commit, or none, would allow is allowed anyway.
                    Some(Poller::Idle) => state.committed = state.committed.max(end),
                    Some(next) => state.pollers[poller] = next,
                    None => {}
                }
            }
            Step::Retry { poller } => {
                if let Poller::Busy { answer, .. } = &mut state.pollers[poller] {
                    *answer = None;
                }
            }
            Step::Die { poller } => Self::leave_behind(&mut state, poller),
        }
        if self.broken.is_none() {
            // Why the dead may be forgotten.
            for (before, after) in before.items.iter().zip(&state.items) {
                assert!(after.last_offset >= before.last_offset && after.closed >= before.closed);
                assert_eq!(before.counted & !after.counted, 0);
            }
        }
        self.tidy(&mut state);
        Some(state)
    }

    fn within_boundary(&self, state: &State) -> bool {
        let within = state.pollers.iter().all(|poller| Self::has_item(*poller));
        assert!(within || self.broken.is_some(), "more items than clicks");
        within
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always(ONCE, |_, state| counted(&state.items).1 == 0),
            // At rest, with everything committed, that is every click. Which writes are late makes no difference.
            Property::<Self>::always(NONE_MISSING, |model, state| {
                let committed = state.committed.checked_sub(1).map_or(0, |last| model.topic(state).mask(0..=last));
                committed & !counted(&state.items).0 == 0
            }),
            // Each record up to and including an item's `last_offset` is counted, once, in it or in one before it, and
            // it has counted nothing behind; an overflow item begins where a closed one ends.
            Property::<Self>::always(LAST_OFFSET, |model, state| {
                let topic = model.topic(state);
                let mut before = Item { closed: true, ..NO_ITEM };
                state.items.iter().enumerate().all(|(position, item)| {
                    if item.last_offset < 0 {
                        before = *item;
                        return *item == NO_ITEM;
                    }
                    let follows = before.closed && before.last_offset < item.last_offset;
                    before = *item;
                    follows
                        && each_once(&state.items[..=position], topic.mask(0..=item.last_offset as u8))
                        && item.counted & !up_to(item.last_offset) == 0
                })
            }),
            // So nothing ever blocks the partition.
            Property::<Self>::always(GOES_ON, |model, state| {
                let topic = model.topic(state);
                let all = topic.mask(0..=model.scope.offsets as u8 - 1);
                [0, state.committed]
                    .into_iter()
                    .flat_map(|start| model.choices().iter().map(move |closes| (start, *closes)))
                    .all(|(start, closes)| {
                        model.undisturbed(state, start, closes).is_some_and(|items| each_once(&items, all))
                    })
            }),
            // What follows shows that the check is not of an idle machine.
            Property::<Self>::sometimes("all is committed, some of it in an overflow item", |model, state| {
                usize::from(state.committed) == model.scope.offsets && state.items[1].last_offset >= 0
            }),
            Property::<Self>::sometimes("an update is refused by a closed item", |_, state| {
                any_answer(state, |_, answer| {
                    matches!(answer, Answer::Updated(UpdateOutcome::Refused { closed: true, .. }))
                })
            }),
            Property::<Self>::sometimes("an update is refused in its middle", |_, state| {
                any_answer(state, |poller, answer| {
                    let Some(Request::Add { first, last, .. }) = Self::request(*poller) else {
                        return false;
                    };
                    let middle = i64::from(first)..i64::from(last);
                    matches!(answer, Answer::Updated(UpdateOutcome::Refused { last_offset, .. }) if middle.contains(&last_offset))
                })
            }),
            Property::<Self>::sometimes("a closing finds that another poller has counted since", |_, state| {
                any_answer(state, |poller, answer| {
                    let Poller::Busy { from, .. } = poller else { return false };
                    matches!(answer, Answer::Closed { last_offset } if last_offset >= *from as i8)
                })
            }),
            Property::<Self>::sometimes("an answer is old when it arrives", |_, state| {
                any_answer(state, |poller, answer| {
                    let Poller::Busy { request: Request::Add { item, .. }, .. } = poller else { return false };
                    let now = i64::from(state.items[usize::from(*item)].last_offset);
                    matches!(answer, Answer::Updated(UpdateOutcome::Refused { last_offset, .. }) if last_offset < now)
                })
            }),
            Property::<Self>::sometimes("two pollers have different updates under way for an item", |_, state| {
                let requests = state.pollers.map(Self::request);
                requests.iter().flatten().any(|a| {
                    requests.iter().flatten().any(|b| match (a, b) {
                        (Request::Add { item: a_item, .. }, Request::Add { item: b_item, .. }) => {
                            a != b && a_item == b_item
                        }
                        _ => false,
                    })
                })
            }),
            Property::<Self>::sometimes("an update can still count although nobody waits for it", |model, state| {
                let alive = |request: &Request| model.is_alive(model.topic(state), &state.items, *request);
                state.pollers.iter().all(|poller| *poller == Poller::Idle) && state.late.iter().any(alive)
            }),
            Property::<Self>::sometimes("three updates are late", |_, state| state.late.len() >= 3),
        ];
        if self.scope.offsets >= 2 * usize::from(self.scope.item_products) {
            properties.push(Property::<Self>::sometimes("a second overflow item counts", |_, state| {
                state.items[2].last_offset >= 0
            }));
        }
        if self.scope.closes {
            properties.push(Property::<Self>::sometimes("the answer to an update that closes is lost", |_, state| {
                state.pollers.iter().any(|poller| {
                    let Some(Request::Add { item, last, closes, .. }) = Self::request(*poller) else {
                        return false;
                    };
                    let item = state.items[usize::from(item)];
                    let waits = matches!(poller, Poller::Busy { answer: None, .. });
                    waits && closes && item.closed && item.last_offset == last as i8
                })
            }));
        }
        if self.scope.keep_the_dead {
            properties.push(Property::<Self>::sometimes("a copy comes late to what is counted", |model, state| {
                let alive = |request: &Request| model.is_alive(model.topic(state), &state.items, *request);
                !state.late.iter().all(alive)
            }));
        }
        properties
    }
}

/// Past the capturing of tests: the figures are to be seen.
fn say(text: &str) {
    let _unseen = writeln!(std::io::stderr(), "{text}");
}

/// Checks the scope whole, and says how large it is.
fn check(scope: Scope) {
    #[expect(clippy::disallowed_methods, reason = "how long the check takes is the machine's time")]
    let start = Instant::now();
    let checker = Protocol::new(scope, None).checker().threads(2).spawn_dfs().join();
    say(&format!(
        "{scope:?}, {} topics: {} states, {} steps, {} deep, {:.1} s",
        checker.model().topics.len(),
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        start.elapsed().as_secs_f64(),
    ));
    checker.assert_properties();
}

#[test]
fn every_click_is_counted_once_in_every_order() {
    if env::var_os("BROKEN").is_some() {
        counterexample(Break::InTheCode);
        return;
    }
    let scopes: &[Scope] = if env::var_os("LARGE").is_some() { &LARGE_SCOPES } else { &SCOPES };
    for &scope in scopes {
        check(scope);
    }
}

/// The shortest way, or one about as short, to a miscount: the property that it breaks, and its steps.
fn counterexample(broken: Break) -> (&'static str, Vec<Step>) {
    let closes = matches!(broken, Break::OffsetForgotten | Break::InTheCode);
    let scope = Scope { offsets: 4, pollers: 2, item_products: 2, closes, keep_the_dead: false };
    let miscounts = HasDiscoveries::AnyOf([ONCE, NONE_MISSING].into());
    let checker = Protocol::new(scope, Some(broken)).checker().finish_when(miscounts).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let miscount = [ONCE, NONE_MISSING].into_iter().find_map(|name| Some((name, discoveries.get(name)?.clone())));
    let (name, path) = miscount.unwrap_or_else(|| panic!("{broken:?} goes unnoticed"));
    let start = &checker.model().topic(path.last_state()).records;
    let steps = path.into_actions();
    let after = checker.unique_state_count();
    say(&format!(
        "{broken:?}: not so that {name}, after {after} states; {} steps on {start:?}: {steps:?}",
        steps.len()
    ));
    (name, steps)
}

#[test]
fn without_the_condition_clicks_are_counted_twice() {
    assert_eq!(counterexample(Break::NoCondition).0, ONCE);
}

#[test]
fn with_last_offset_too_far_clicks_are_lost() {
    assert_eq!(counterexample(Break::LastOffsetTooFar).0, NONE_MISSING);
}

#[test]
fn with_all_old_ignored_clicks_are_lost() {
    assert_eq!(counterexample(Break::AllOldIgnored).0, NONE_MISSING);
}

#[test]
fn with_the_full_item_left_open_clicks_are_counted_twice() {
    assert_eq!(counterexample(Break::FullItemNotClosed).0, ONCE);
}

#[test]
fn with_the_offset_of_closed_items_forgotten_clicks_are_counted_twice() {
    assert_eq!(counterexample(Break::OffsetForgotten).0, ONCE);
}
