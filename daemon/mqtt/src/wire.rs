//! One MQTT v5 connection: the packets of rumqttc over a socket of our own.
//!
//! The event loop of rumqttc reads up to ten packets for each acknowledgement that it writes, and it cannot stop reading and
//! still write. mosquitto 2.0.11 sends a whole window for each acknowledgement. After an outage, acknowledgements would
//! accumulate without bound. Here the input decides when to read, and packets that are ready together need one system call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::tokio_rustls::TlsConnector;
use rumqttc::tokio_rustls::client::TlsStream;
use rumqttc::v5::mqttbytes::Error as PacketError;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, Connect, ConnectReturnCode, DisconnectReasonCode, LastWill, Login, Packet,
};
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::messages;

/// Size of the read buffer in bytes: many small packets with one system call.
const READ_BYTES: usize = 64 * 1024;

/// The broker must accept written data within this.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// All that is needed to connect.
pub(crate) struct ConnectOptions {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) connect: Connect,
    pub(crate) will: Option<LastWill>,
    pub(crate) login: Option<Login>,
    /// Largest accepted packet.
    pub(crate) packet_max: u32,
    /// For TCP, TLS and CONNACK together.
    pub(crate) connect_timeout: Duration,
}

/// Why a connection ended; the messages are for the operator.
#[derive(Debug, Error)]
pub enum WireError {
    /// The broker cannot be reached.
    #[error("{}", messages::unreachable(.0))]
    Connect(io::Error),
    /// The TLS handshake failed.
    #[error("{}", messages::tls(.0))]
    Tls(io::Error),
    /// The broker did not answer in time.
    #[error("{}", messages::TIMEOUT)]
    Timeout,
    /// The broker refused the connection.
    #[error("{}", messages::refused(*.0))]
    Refused(ConnectReturnCode),
    /// The peer does not speak MQTT v5.
    #[error("{}", messages::NOT_MQTT)]
    NotMqtt,
    /// The connection failed.
    #[error("{}", messages::failed(.0))]
    Io(io::Error),
    /// The broker closed it.
    #[error("{}", messages::CLOSED)]
    Closed,
    /// The broker closed it with a reason code.
    #[error("{}", messages::disconnected(*.0))]
    Disconnected(DisconnectReasonCode),
    /// Invalid data, or a packet that is too large.
    #[error("{}", messages::packet(.0))]
    Packet(PacketError),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl Stream for TcpStream {}
impl Stream for TlsStream<TcpStream> {}

/// An open connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    incoming: BytesMut,
    outgoing: BytesMut,
    packet_max: u32,
}

impl Wire {
    /// Connects and signs in.
    pub(crate) async fn open(options: ConnectOptions) -> Result<(Self, ConnAck), WireError> {
        let connect_timeout = options.connect_timeout;
        timeout(connect_timeout, Self::sign_in(options)).await.map_err(|_| WireError::Timeout)?
    }

    async fn sign_in(options: ConnectOptions) -> Result<(Self, ConnAck), WireError> {
        let stream =
            TcpStream::connect((options.host.as_str(), options.port)).await.map_err(WireError::Connect)?;
        stream.set_nodelay(true).map_err(WireError::Connect)?;
        let stream: Box<dyn Stream> = match options.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(options.host)
                    .map_err(|error| WireError::Tls(io::Error::other(error)))?;
                Box::new(TlsConnector::from(tls).connect(name, stream).await.map_err(WireError::Tls)?)
            }
        };
        let packet_max = options.packet_max;
        let mut wire = Self { stream, incoming: BytesMut::new(), outgoing: BytesMut::new(), packet_max };
        wire.write([Packet::Connect(options.connect, options.will, options.login)]).await?;
        match wire.read().await {
            Ok(Packet::ConnAck(answer)) if answer.code == ConnectReturnCode::Success => Ok((wire, answer)),
            Ok(Packet::ConnAck(answer)) => Err(WireError::Refused(answer.code)),
            Ok(_) | Err(WireError::Packet(_)) => Err(WireError::NotMqtt),
            Err(error) => Err(error),
        }
    }

    /// The next packet. Cancellation is safe: no part of a packet is lost.
    pub(crate) async fn read(&mut self) -> Result<Packet, WireError> {
        loop {
            if let Some(packet) = self.read_now()? {
                return Ok(packet);
            }
            if self.incoming.capacity() == self.incoming.len() {
                self.incoming.reserve(READ_BYTES);
            }
            if self.stream.read_buf(&mut self.incoming).await.map_err(WireError::Io)? == 0 {
                return Err(WireError::Closed);
            }
        }
    }

    /// The next packet, if it is already read.
    pub(crate) fn read_now(&mut self) -> Result<Option<Packet>, WireError> {
        // A packet has at least two bytes.
        if self.incoming.len() < 2 {
            return Ok(None);
        }
        match Packet::read(&mut self.incoming, Some(self.packet_max)) {
            Ok(Packet::Disconnect(disconnect)) => Err(WireError::Disconnected(disconnect.reason_code)),
            Ok(packet) => Ok(Some(packet)),
            Err(PacketError::InsufficientBytes(missing)) => {
                // The missing bytes of one packet, bounded by `packet_max`.
                self.incoming.reserve(missing);
                Ok(None)
            }
            Err(error) => Err(WireError::Packet(error)),
        }
    }

    /// Appends a packet to the buffer that [`Wire::flush`] writes.
    pub(crate) fn queue(&mut self, packet: &Packet) -> Result<(), WireError> {
        packet.write(&mut self.outgoing, None).map(drop).map_err(WireError::Packet)
    }

    /// Writes the queued packets. Must not be cancelled.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all_buf(&mut self.outgoing).await?;
            self.stream.flush().await
        };
        timeout(WRITE_TIMEOUT, write).await.map_err(|_| WireError::Timeout)?.map_err(WireError::Io)
    }

    /// Writes packets with one flush. Must not be cancelled.
    pub(crate) async fn write(&mut self, packets: impl IntoIterator<Item = Packet>) -> Result<(), WireError> {
        for packet in packets {
            self.queue(&packet)?;
        }
        self.flush().await
    }

    /// Closes the stream.
    pub(crate) async fn close(mut self) {
        // The result has no consequence: the connection ends.
        let _ = timeout(WRITE_TIMEOUT, self.stream.shutdown()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    impl Stream for DuplexStream {}

    fn pair(packet_max: u32) -> (DuplexStream, Wire) {
        let (far, near) = tokio::io::duplex(1 << 20);
        let wire =
            Wire { stream: Box::new(near), incoming: BytesMut::new(), outgoing: BytesMut::new(), packet_max };
        (far, wire)
    }

    fn publish(bytes: usize) -> Vec<u8> {
        use rumqttc::v5::mqttbytes::{QoS, v5::Publish};
        let mut packet = Publish::new("a/b", QoS::AtLeastOnce, vec![7; bytes], None);
        packet.pkid = 1;
        let mut buffer = BytesMut::new();
        Packet::Publish(packet).write(&mut buffer, None).unwrap();
        buffer.to_vec()
    }

    #[tokio::test]
    async fn packets_that_come_byte_by_byte_are_whole_also_when_reading_is_given_up_between() {
        let (mut far, mut wire) = pair(10_000);
        for byte in publish(300) {
            assert!(timeout(Duration::from_millis(1), wire.read()).await.is_err());
            far.write_all(&[byte]).await.unwrap();
        }
        let Packet::Publish(packet) = wire.read().await.unwrap() else { panic!() };
        assert_eq!(packet.payload.len(), 300);
    }

    #[tokio::test]
    async fn a_packet_above_the_maximum_is_refused_before_it_is_read() {
        let (mut far, mut wire) = pair(1000);
        far.write_all(&publish(5000)[..10]).await.unwrap();
        let error = wire.read().await.unwrap_err();
        assert!(matches!(error, WireError::Packet(PacketError::PayloadSizeLimitExceeded { .. })), "{error}");
        assert!(wire.incoming.capacity() <= 2 * READ_BYTES);
    }

    #[tokio::test]
    async fn noise_is_an_error_and_the_end_is_reported() {
        let (mut far, mut wire) = pair(1000);
        // What a web server says looks like the begin of a PUBACK of 84 bytes.
        far.write_all(&[b"HTTP/1.1 400 Bad Request\r\n".as_slice(), &[b'x'; 100]].concat()).await.unwrap();
        assert!(wire.read().await.is_err());
        let (far, mut wire) = pair(1000);
        drop(far);
        assert!(matches!(wire.read().await, Err(WireError::Closed)));
    }
}
