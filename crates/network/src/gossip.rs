//! Gossip: how gossipsub is set up, how it judges peers, and the messages that await their verdict.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use libp2p_gossipsub::{
    self as gossipsub, DataTransform, IdentTopic, MaxCountSubscriptionFilter, Message, MessageAcceptance,
    MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, RawMessage, TopicHash, TopicScoreParams,
    ValidationMode, WhitelistSubscriptionFilter, score_parameter_decay,
};
use libp2p_identity::PeerId;
use tokio::time::Instant;

use crate::config::{Config, Limits, Topic};

pub type Behaviour = gossipsub::Behaviour<KnownTopics, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>;

/// What was found of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to others.
    Accept,
    /// It goes no further, and nobody is blamed.
    Ignore,
    /// It goes no further, and those who sent it are scored down.
    Reject,
}

impl From<Verdict> for MessageAcceptance {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Accept => Self::Accept,
            Verdict::Ignore => Self::Ignore,
            Verdict::Reject => Self::Reject,
        }
    }
}

/// Refuses messages of topics that this node does not listen to: gossipsub would keep them for a while.
#[derive(Clone, Default)]
pub struct KnownTopics(Arc<RwLock<HashSet<TopicHash>>>);

impl KnownTopics {
    pub fn set(&self, topic: TopicHash, known: bool) {
        let mut topics = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known {
            topics.insert(topic);
        } else {
            topics.remove(&topic);
        }
    }
}

impl DataTransform for KnownTopics {
    fn inbound_transform(&self, raw: RawMessage) -> Result<Message, io::Error> {
        if !self.0.read().unwrap_or_else(PoisonError::into_inner).contains(&raw.topic) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a topic of ours"));
        }
        Ok(Message { source: raw.source, data: raw.data, sequence_number: raw.sequence_number, topic: raw.topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> Result<Vec<u8>, io::Error> {
        Ok(data)
    }
}

/// A message's identity: BLAKE3 of its topic's name, the name's length before it, and its bytes.
pub fn message_id(message: &Message) -> MessageId {
    let topic = message.topic.as_str().as_bytes();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(topic.len() as u32).to_be_bytes()).update(topic).update(&message.data);
    MessageId::new(hasher.finalize().as_bytes())
}

/// Bytes of protocol around a message.
const ENVELOPE_BYTES: usize = 256;
/// Bytes of control messages (what others have, want, do not want) in one packet.
const CONTROL_BYTES_MAX: usize = 32 << 10;
/// Time for which a message's name is remembered, so that it is taken once.
const REMEMBERED: Duration = Duration::from_secs(30);

/// A gossipsub whose messages carry no author: what they say is signed inside, where it matters.
pub fn build(config: &Config, topics: KnownTopics) -> Result<Behaviour, String> {
    let heartbeat = Duration::from_secs_f64(config.heartbeat_seconds);
    // A message must outlive the time for its verdict in the cache from which it is forwarded.
    let kept = (config.limits.validation_seconds / config.heartbeat_seconds).ceil() as usize + 3;
    let longest = config.topics.iter().map(|topic| topic.bytes_max).max().unwrap_or_default();
    let mut builder = gossipsub::ConfigBuilder::default();
    builder
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .heartbeat_interval(heartbeat)
        .heartbeat_initial_delay(heartbeat / 2)
        .history_gossip(3)
        .history_length(kept.max(6))
        .duplicate_cache_time(REMEMBERED)
        // The codec measures what it has read, which may be the beginning of the next packet too.
        .max_transmit_size(longest + ENVELOPE_BYTES + CONTROL_BYTES_MAX + (64 << 10))
        .max_control_message_size(CONTROL_BYTES_MAX)
        .max_publish_messages(64)
        .connection_handler_queue_len(512)
        .publish_queue_duration(Duration::from_secs(5))
        .forward_queue_duration(Duration::from_secs(3))
        .prune_backoff(Duration::from_secs(30));
    for topic in &config.topics {
        let hash = IdentTopic::new(&topic.name).hash();
        builder.max_transmit_size_for_topic(topic.bytes_max + ENVELOPE_BYTES, hash);
    }
    let settings = builder.build().map_err(|error| error.to_string())?;
    let names: HashSet<TopicHash> = config.topics.iter().map(|topic| IdentTopic::new(&topic.name).hash()).collect();
    let filter = MaxCountSubscriptionFilter {
        max_subscribed_topics: names.len(),
        max_subscriptions_per_request: 2 * names.len().max(8),
        filter: WhitelistSubscriptionFilter(names),
    };
    let mut behaviour = gossipsub::Behaviour::new_with_subscription_filter_and_transform(
        MessageAuthenticity::Anonymous,
        settings,
        filter,
        topics,
    )?;
    behaviour.with_peer_score(scores(config), thresholds(config.ban_score))?;
    Ok(behaviour)
}

/// How peers are judged. A message that was rejected costs the square of how many there were lately, five times:
/// one is forgiven, seven in a few minutes are a ban at the default of -200. First deliveries earn a little, so that
/// a long honest life outweighs one mistake; nothing is lost by having nothing to deliver, because a network with
/// little traffic would punish everybody. Addresses are limited when they connect, not scored.
fn scores(config: &Config) -> PeerScoreParams {
    let topics = config.topics.iter().map(|topic| (IdentTopic::new(&topic.name).hash(), topic_scores(topic)));
    PeerScoreParams {
        topics: topics.collect(),
        topic_score_cap: 40.0,
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: 0.0,
        // Promised messages that never came, and grafting too early: a few happen to a slow peer.
        behaviour_penalty_weight: -5.0,
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: score_parameter_decay(Duration::from_secs(600)),
        decay_interval: Duration::from_secs(1),
        // A peer that was banned comes back as a stranger, no sooner forgotten than its ban ends.
        retain_score: Duration::from_secs_f64(config.ban_seconds * 0.5),
        // Being slow is no crime: it makes a peer less interesting for a while, and never bans it.
        slow_peer_weight: -0.05,
        slow_peer_threshold: 20.0,
        slow_peer_decay: 0.5,
        ..PeerScoreParams::default()
    }
}

fn topic_scores(topic: &Topic) -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: topic.weight,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(10),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: score_parameter_decay(Duration::from_secs(600)),
        first_message_deliveries_cap: 100.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -5.0,
        invalid_message_deliveries_decay: score_parameter_decay(Duration::from_secs(600)),
        ..TopicScoreParams::default()
    }
}

fn thresholds(ban_score: f64) -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: ban_score * 0.2,
        publish_threshold: ban_score * 0.4,
        // Not before the ban: what nobody listens to any more is not judged, and would never become worse.
        graylist_threshold: ban_score,
        accept_px_threshold: 1e6,
        opportunistic_graft_threshold: 1.0,
    }
}

/// A message that awaits its verdict.
struct Pending {
    id: MessageId,
    source: PeerId,
    bytes: usize,
    until: Instant,
}

/// The messages that await their verdict, so many and no more; no peer may take more than a quarter of the room.
pub struct PendingMessages {
    limit: usize,
    bytes_limit: usize,
    time: Duration,
    next: u64,
    bytes: usize,
    waiting: BTreeMap<u64, Pending>,
    by_peer: HashMap<PeerId, usize>,
}

impl PendingMessages {
    pub fn new(limits: &Limits) -> Self {
        Self {
            limit: limits.pending_messages,
            bytes_limit: limits.pending_message_bytes,
            time: Duration::from_secs_f64(limits.validation_seconds),
            next: 1,
            bytes: 0,
            waiting: BTreeMap::new(),
            by_peer: HashMap::new(),
        }
    }

    /// Remember a message under a handle, if there is room.
    pub fn add(&mut self, id: MessageId, source: PeerId, bytes: usize) -> Option<u64> {
        let of_peer = self.by_peer.get(&source).copied().unwrap_or_default();
        if self.waiting.len() >= self.limit
            || self.bytes + bytes > self.bytes_limit
            || of_peer >= self.limit.div_ceil(4)
        {
            return None;
        }
        let handle = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.by_peer.insert(source, of_peer + 1);
        self.waiting.insert(handle, Pending { id, source, bytes, until: Instant::now() + self.time });
        Some(handle)
    }

    /// The message of a handle, which is forgotten.
    pub fn take(&mut self, handle: u64) -> Option<(MessageId, PeerId)> {
        let pending = self.waiting.remove(&handle)?;
        self.bytes -= pending.bytes;
        if let Some(count) = self.by_peer.get_mut(&pending.source) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&pending.source);
            }
        }
        Some((pending.id, pending.source))
    }

    /// A handle whose time is up.
    pub fn expired(&self, now: Instant) -> Option<u64> {
        // All have the same time: the oldest is up first.
        self.waiting.first_key_value().filter(|(_, pending)| pending.until <= now).map(|(handle, _)| *handle)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::limits;

    fn id(number: u8) -> MessageId {
        MessageId::new(&[number])
    }

    #[test]
    fn the_same_bytes_on_another_topic_are_another_message() {
        let message = |topic: &str, data: &[u8]| {
            message_id(&Message {
                source: None,
                data: data.to_vec(),
                sequence_number: None,
                topic: IdentTopic::new(topic).hash(),
            })
        };
        assert_eq!(message("a", b"bc"), message("a", b"bc"));
        assert_ne!(message("a", b"bc"), message("ab", b"c"));
    }

    #[test]
    fn no_peer_takes_all_the_room() {
        let mut pending = PendingMessages::new(&Limits { pending_messages: 8, ..limits() });
        let (greedy, other) = (PeerId::random(), PeerId::random());
        let handles: Vec<u64> = (0..8).filter_map(|number| pending.add(id(number), greedy, 1)).collect();
        assert_eq!(handles.len(), 2);
        assert!(pending.add(id(9), other, 1).is_some());
        assert_eq!(pending.take(handles[0]), Some((id(0), greedy)));
        assert_eq!(pending.take(handles[0]), None);
        assert!(pending.add(id(10), greedy, 1).is_some());
    }

    #[test]
    fn bytes_are_bounded_too_and_given_back() {
        let mut pending = PendingMessages::new(&Limits { pending_message_bytes: 10, ..limits() });
        let handle = pending.add(id(1), PeerId::random(), 8).unwrap();
        assert_eq!(pending.add(id(2), PeerId::random(), 3), None);
        pending.take(handle);
        assert!(pending.add(id(2), PeerId::random(), 10).is_some());
    }

    #[test]
    fn a_message_that_nobody_judges_expires() {
        let mut pending = PendingMessages::new(&Limits { validation_seconds: 5.0, ..limits() });
        let handle = pending.add(id(1), PeerId::random(), 8).unwrap();
        assert_eq!(pending.expired(Instant::now()), None);
        assert_eq!(pending.expired(Instant::now() + Duration::from_secs(6)), Some(handle));
        pending.take(handle);
        assert_eq!(pending.expired(Instant::now() + Duration::from_secs(6)), None);
    }
}
