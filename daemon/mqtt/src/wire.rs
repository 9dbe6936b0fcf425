//! One MQTT v5 connection: rumqttc's packets over a socket of our own.
//!
//! Why not rumqttc's event loop: it reads up to ten packets for each acknowledgement that it writes, and offers
//! no way to stop reading and still write. mosquitto 2.0.11 sends a whole new window for each acknowledgement,
//! so that after an outage the acknowledgements pile up without bound. Here the input alone decides when to
//! read, and what is written together costs one system call.

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

use crate::words;

/// Room that is made for reading, in bytes: many small packets with one system call.
const READ_BYTES: usize = 64 * 1024;

/// A broker takes what is written within this, or the connection counts as lost.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);

/// Everything needed to connect.
pub(crate) struct Door {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
    pub(crate) connect: Connect,
    pub(crate) will: Option<LastWill>,
    pub(crate) login: Option<Login>,
    /// Largest packet that is taken.
    pub(crate) packet_max: u32,
    /// For TCP, TLS and the broker's answer together.
    pub(crate) patience: Duration,
}

/// Why a connection ended, in words for the operator.
#[derive(Debug, Error)]
pub enum WireError {
    /// The broker cannot be reached.
    #[error("{}", words::unreachable(.0))]
    Connect(io::Error),
    /// TLS could not be agreed.
    #[error("{}", words::tls(.0))]
    Tls(io::Error),
    /// The broker did not answer in time.
    #[error("{}", words::TIMEOUT)]
    Timeout,
    /// The broker does not let us in.
    #[error("{}", words::refused(*.0))]
    Refused(ConnectReturnCode),
    /// The other side speaks something else.
    #[error("{}", words::NOT_MQTT)]
    NotMqtt,
    /// The connection broke.
    #[error("{}", words::broke(.0))]
    Io(io::Error),
    /// The broker closed it.
    #[error("{}", words::CLOSED)]
    Closed,
    /// The broker closed it and said why.
    #[error("{}", words::disconnected(*.0))]
    Disconnected(DisconnectReasonCode),
    /// What came is no packet, or one too large.
    #[error("{}", words::packet(.0))]
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
    pub(crate) async fn open(door: Door) -> Result<(Self, ConnAck), WireError> {
        let patience = door.patience;
        timeout(patience, Self::sign_in(door)).await.map_err(|_| WireError::Timeout)?
    }

    async fn sign_in(door: Door) -> Result<(Self, ConnAck), WireError> {
        let stream = TcpStream::connect((door.host.as_str(), door.port)).await.map_err(WireError::Connect)?;
        stream.set_nodelay(true).map_err(WireError::Connect)?;
        let stream: Box<dyn Stream> = match door.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(door.host)
                    .map_err(|error| WireError::Tls(io::Error::other(error)))?;
                Box::new(TlsConnector::from(tls).connect(name, stream).await.map_err(WireError::Tls)?)
            }
        };
        let packet_max = door.packet_max;
        let mut wire = Self { stream, incoming: BytesMut::new(), outgoing: BytesMut::new(), packet_max };
        wire.write([Packet::Connect(door.connect, door.will, door.login)]).await?;
        match wire.read().await {
            Ok(Packet::ConnAck(answer)) if answer.code == ConnectReturnCode::Success => Ok((wire, answer)),
            Ok(Packet::ConnAck(answer)) => Err(WireError::Refused(answer.code)),
            Ok(_) | Err(WireError::Packet(_)) => Err(WireError::NotMqtt),
            Err(error) => Err(error),
        }
    }

    /// The next packet. May be dropped while it waits: nothing of a packet is lost.
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

    /// The next packet, if it is here already.
    pub(crate) fn read_now(&mut self) -> Result<Option<Packet>, WireError> {
        // A packet has at least two bytes; of fewer nothing can be said.
        if self.incoming.len() < 2 {
            return Ok(None);
        }
        match Packet::read(&mut self.incoming, Some(self.packet_max)) {
            Ok(Packet::Disconnect(goodbye)) => Err(WireError::Disconnected(goodbye.reason_code)),
            Ok(packet) => Ok(Some(packet)),
            Err(PacketError::InsufficientBytes(missing)) => {
                // The missing bytes of one packet, bounded by `packet_max`.
                self.incoming.reserve(missing);
                Ok(None)
            }
            Err(error) => Err(WireError::Packet(error)),
        }
    }

    /// Puts a packet into the buffer that [`Wire::flush`] writes.
    pub(crate) fn queue(&mut self, packet: &Packet) -> Result<(), WireError> {
        packet.write(&mut self.outgoing, None).map(drop).map_err(WireError::Packet)
    }

    /// Writes what was queued; nothing where nothing was. Must not be dropped half way.
    pub(crate) async fn flush(&mut self) -> Result<(), WireError> {
        if self.outgoing.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all_buf(&mut self.outgoing).await?;
            self.stream.flush().await
        };
        timeout(WRITE_PATIENCE, write).await.map_err(|_| WireError::Timeout)?.map_err(WireError::Io)
    }

    /// Writes packets, all of them with one flush. Must not be dropped half way.
    pub(crate) async fn write(&mut self, packets: impl IntoIterator<Item = Packet>) -> Result<(), WireError> {
        for packet in packets {
            self.queue(&packet)?;
        }
        self.flush().await
    }

    /// Ends the stream in order.
    pub(crate) async fn close(mut self) {
        // Whether the other side still listens makes no difference any more.
        let _ = timeout(WRITE_PATIENCE, self.stream.shutdown()).await;
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
    async fn noise_is_an_error_and_the_end_is_told() {
        let (mut far, mut wire) = pair(1000);
        // What a web server says looks like the begin of a PUBACK of 84 bytes.
        far.write_all(&[b"HTTP/1.1 400 Bad Request\r\n".as_slice(), &[b'x'; 100]].concat()).await.unwrap();
        assert!(wire.read().await.is_err());
        let (far, mut wire) = pair(1000);
        drop(far);
        assert!(matches!(wire.read().await, Err(WireError::Closed)));
    }
}
