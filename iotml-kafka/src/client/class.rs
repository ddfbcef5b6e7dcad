//! The one table that says what an error of Kafka means for the caller.

use iotml_core::error::Reason;
use rdkafka::types::RDKafkaErrorCode;

/// What a caller can do about an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass.
    Retryable,
    /// This record is at fault and will never be accepted.
    Record(Reason),
    /// Nothing will go right before someone changes something.
    Fatal,
}

/// The verdict on `code`. What is not named here is taken to pass: nothing is ever dropped for an error we do not know.
pub(crate) fn verdict(code: RDKafkaErrorCode) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => Verdict::Record(Reason::Oversized),
        // The broker has read the record and does not want it.
        Code::InvalidRecord | Code::InvalidTimestamp | Code::InvalidMessage => Verdict::Record(Reason::Refused),
        Code::PolicyViolation => Verdict::Record(Reason::Refused),
        Code::InvalidTopic | Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            Verdict::Record(Reason::NoTarget)
        }
        // An idempotent producer that lost track cannot go on without risking order or duplicates.
        Code::Fatal | Code::Fenced | Code::InvalidProducerEpoch => Verdict::Fatal,
        Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL => Verdict::Fatal,
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => Verdict::Fatal,
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed => Verdict::Fatal,
        Code::ClusterAuthorizationFailed | Code::TransactionalIdAuthorizationFailed => Verdict::Fatal,
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::UnsupportedCompressionType => Verdict::Fatal,
        Code::UnsupportedForMessageFormat | Code::InvalidRequiredAcks => Verdict::Fatal,
        Code::InvalidGroupId | Code::InconsistentGroupProtocol | Code::FencedInstanceId => Verdict::Fatal,
        _ => Verdict::Retryable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_is_tried_again_rather_than_dropped() {
        assert_eq!(verdict(RDKafkaErrorCode::RequestTimedOut), Verdict::Retryable);
        assert_eq!(verdict(RDKafkaErrorCode::NotEnoughReplicas), Verdict::Retryable);
        assert_eq!(verdict(RDKafkaErrorCode::MessageSizeTooLarge), Verdict::Record(Reason::Oversized));
        assert_eq!(verdict(RDKafkaErrorCode::Fatal), Verdict::Fatal);
    }
}
