//! Blocks and system calls as bytes.

use alloy_consensus::Header;
use alloy_primitives::{Address, Bytes};
use alloy_rlp::{Decodable, Encodable};

use crate::block::SystemCall;
use crate::errors::BlockError;

/// A flat list: contract, calldata, contract, calldata, …
pub fn encode_system_calls(calls: &[SystemCall]) -> Vec<u8> {
    let flat: Vec<Bytes> =
        calls.iter().flat_map(|(to, data)| [Bytes::copy_from_slice(to.as_slice()), data.clone()]).collect();
    alloy_rlp::encode(flat)
}

/// The inverse; `None` for bytes that are not such a list.
pub fn decode_system_calls(mut bytes: &[u8]) -> Option<Vec<SystemCall>> {
    let flat = Vec::<Bytes>::decode(&mut bytes).ok()?;
    flat.chunks(2)
        .map(|pair| match pair {
            [to, data] if to.len() == 20 => Some((Address::from_slice(to), data.clone())),
            _ => None,
        })
        .collect()
}

/// `rlp([header, transactions, [], []])`: legacy transactions are lists inside, typed ones are strings.
pub fn encode_block<'a>(header_rlp: &[u8], transactions: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    for raw in transactions {
        if raw.first().is_some_and(|first| *first >= 0xc0) {
            body.extend_from_slice(raw)
        } else {
            raw.encode(&mut body)
        }
    }
    let list = alloy_rlp::Header { list: true, payload_length: body.len() };
    let payload_length = header_rlp.len() + list.length() + body.len() + 2;
    let mut out = Vec::with_capacity(payload_length + 9);
    alloy_rlp::Header { list: true, payload_length }.encode(&mut out);
    out.extend_from_slice(header_rlp);
    list.encode(&mut out);
    out.extend_from_slice(&body);
    // No ommers, no withdrawals.
    out.extend_from_slice(&[0xc0, 0xc0]);
    out
}

/// Split a block into its header and the network encodings of its transactions.
pub fn decode_block(rlp: &[u8]) -> Result<(Header, Vec<Bytes>), BlockError> {
    let bad = |what: String| BlockError::invalid("encoding", format!("invalid block encoding: {what}"));
    let from_rlp = |error: alloy_rlp::Error| bad(error.to_string());
    let mut rest = rlp;
    let mut fields = alloy_rlp::Header::decode_bytes(&mut rest, true).map_err(from_rlp)?;
    if !rest.is_empty() {
        return Err(bad("bytes after the end".into()));
    }
    let header = Header::decode(&mut fields).map_err(from_rlp)?;
    let mut list = alloy_rlp::Header::decode_bytes(&mut fields, true).map_err(from_rlp)?;
    let mut raws = Vec::new();
    while !list.is_empty() {
        let start = list;
        let item = alloy_rlp::Header::decode(&mut list).map_err(from_rlp)?;
        if list.len() < item.payload_length {
            return Err(bad("a transaction is cut off".into()));
        }
        let (payload, after) = list.split_at(item.payload_length);
        let raw = if item.list { &start[..start.len() - after.len()] } else { payload };
        raws.push(Bytes::copy_from_slice(raw));
        list = after;
    }
    if fields != [0xc0, 0xc0] {
        return Err(bad("ommers and withdrawals must be empty lists".into()));
    }
    Ok((header, raws))
}
