//! The part of the Protocol Buffers wire format that ONNX files need (protobuf.dev/programming-guides/encoding).

/// A message in wire format, built field by field.
#[derive(Clone, Debug, Default)]
pub(super) struct ProtoMessage(Vec<u8>);

impl ProtoMessage {
    /// The encoded fields.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Appends an integer field; negative numbers as two's complement of 64 bits.
    pub(super) fn integer(&mut self, field: u32, value: i64) -> &mut Self {
        self.key(field, 0);
        self.varint(value as u64);
        self
    }

    /// Appends a `bytes` or `string` field.
    pub(super) fn bytes(&mut self, field: u32, value: impl AsRef<[u8]>) -> &mut Self {
        let value = value.as_ref();
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Appends the field of another message.
    pub(super) fn message(&mut self, field: u32, value: &ProtoMessage) -> &mut Self {
        self.bytes(field, &value.0)
    }

    /// The number and the wire type of a field.
    fn key(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::ProtoMessage;

    /// The examples of the encoding guide.
    #[test]
    fn fields_are_encoded_as_the_guide_shows() {
        let mut message = ProtoMessage::default();
        message.integer(1, 150).bytes(2, "testing");
        let inner = message.clone();
        message.message(3, &inner).integer(1, -2);
        let mut expected = vec![0x08, 0x96, 0x01, 0x12, 0x07];
        expected.extend(b"testing");
        let first = expected.clone();
        expected.extend([0x1a, first.len() as u8]);
        expected.extend(&first);
        expected.extend([0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(message.into_bytes(), expected);
    }
}
