// SPDX-License-Identifier: Apache-2.0
#include "dist/process_ranks.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "dist/device_exchange.h"
#include "tensor/transfer.h"

namespace swarr {
namespace {

// A connected or listening socket.
class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  int descriptor() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }

  void Send(const void* data, std::size_t bytes) const {
    for (const char* p = static_cast<const char*>(data); bytes > 0;) {
      const ssize_t sent = send(descriptor_, p, bytes, MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) throw RankLost("the other side has hung up");
      p += sent;
      bytes -= static_cast<std::size_t>(sent);
    }
  }
  void Receive(void* data, std::size_t bytes) const {
    for (char* p = static_cast<char*>(data); bytes > 0;) {
      const ssize_t got = recv(descriptor_, p, bytes, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) throw RankLost("the other side has hung up");
      p += got;
      bytes -= static_cast<std::size_t>(got);
    }
  }
  void SendText(const std::string& text) const {
    const std::uint64_t size = text.size();
    Send(&size, sizeof size);
    Send(text.data(), text.size());
  }
  std::string ReceiveText() const {
    constexpr std::uint64_t kMost = std::uint64_t{1} << 36;
    std::uint64_t size = 0;
    Receive(&size, sizeof size);
    SWARR_CHECK(size <= kMost, "a rank announces ", size, " bytes, which no rank of ours does");
    std::string text(size, '\0');
    Receive(text.data(), text.size());
    return text;
  }

  // A machine that is gone says nothing: it counts as lost after half a minute.
  void NoticeSilence() const {
    const int on = 1, idle_s = 10, between_s = 5, tries = 4;
    setsockopt(descriptor_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(descriptor_, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(descriptor_, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof between_s);
    setsockopt(descriptor_, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof tries);
    setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const unsigned unanswered_ms = 30'000;  // what was sent and not acknowledged, which stops the asking above
    setsockopt(descriptor_, IPPROTO_TCP, TCP_USER_TIMEOUT, &unanswered_ms, sizeof unanswered_ms);
  }
  // Receive, Send and connect give up when nothing comes for so long; 0: never.
  void WaitAtMost(double seconds) const {
    timeval limit{};
    limit.tv_sec = static_cast<time_t>(seconds);
    limit.tv_usec = static_cast<suseconds_t>((seconds - static_cast<double>(limit.tv_sec)) * 1e6);
    for (const int what : {SO_RCVTIMEO, SO_SNDTIMEO}) setsockopt(descriptor_, SOL_SOCKET, what, &limit, sizeof limit);
  }

 private:
  int descriptor_;
};

struct Addresses {
  Addresses(const Launch& launch, bool to_listen) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    if (to_listen) hints.ai_flags = AI_PASSIVE;
    const int error = getaddrinfo(to_listen ? nullptr : launch.host.c_str(), launch.port.c_str(), &hints, &first);
    SWARR_CHECK(error == 0, "the meeting place ", launch.host, ":", launch.port,
                " can't be found: ", gai_strerror(error));
  }
  ~Addresses() { freeaddrinfo(first); }
  Addresses(const Addresses&) = delete;
  Addresses& operator=(const Addresses&) = delete;
  addrinfo* first = nullptr;
};

using Clock = std::chrono::steady_clock;

// At the port, for IPv6 and IPv4 where the machine has both.
Socket Listen(const Launch& launch) {
  const Addresses addresses(launch, /*to_listen=*/true);
  for (const int family : {AF_INET6, AF_INET}) {
    for (const addrinfo* a = addresses.first; a != nullptr; a = a->ai_next) {
      if (a->ai_family != family) continue;
      Socket s(socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
      const int on = 1, off = 0;
      setsockopt(s.descriptor(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      if (family == AF_INET6) setsockopt(s.descriptor(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      if (s.open() && bind(s.descriptor(), a->ai_addr, a->ai_addrlen) == 0 &&
          listen(s.descriptor(), launch.size) == 0) {
        return s;
      }
    }
  }
  throw Error(Concat("rank 0 can't listen at port ", launch.port, ": ", std::strerror(errno),
                     "; choose another meeting place"));
}

// Waits until the socket has something to read; whether it has before the deadline.
bool AwaitInput(const Socket& s, Clock::time_point deadline) {
  pollfd entry{.fd = s.descriptor(), .events = POLLIN, .revents = 0};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    if (poll(&entry, 1, static_cast<int>(left)) > 0) return true;
  }
}

Socket Connect(const Launch& launch, Clock::time_point deadline) {
  constexpr double kPatience = 5;  // one attempt would last for minutes where what comes is dropped
  const Addresses addresses(launch, /*to_listen=*/false);
  while (Clock::now() < deadline) {
    for (const addrinfo* a = addresses.first; a != nullptr; a = a->ai_next) {
      Socket s(socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
      s.WaitAtMost(kPatience);
      if (s.open() && connect(s.descriptor(), a->ai_addr, a->ai_addrlen) == 0) return s;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // rank 0 may start later
  }
  throw Error(Concat("rank ", launch.rank, " found nobody at ", launch.host, ":", launch.port, "; is rank 0 running?"));
}

// What a rank says first: that it is one of ours, and which.
struct Greeting {
  char magic[8] = {'s', 'w', 'a', 'r', 'r', 'r', 'k', '1'};
  std::int32_t rank = 0, size = 0;
};

// A guest's greeting; nothing from a stranger, who may ask whether anybody listens, say something else, or be silent.
std::optional<Greeting> GreetingOf(const Socket& guest) {
  constexpr double kPatience = 5;
  Greeting theirs;
  guest.WaitAtMost(kPatience);
  try {
    guest.Receive(&theirs, sizeof theirs);
  } catch (const RankLost&) {
    return std::nullopt;
  }
  guest.WaitAtMost(0);
  const bool ours = std::memcmp(theirs.magic, Greeting().magic, sizeof theirs.magic) == 0;
  return ours ? std::optional(theirs) : std::nullopt;
}

// Goes to rank 0 and waits for its answer.
Socket Join(const Launch& launch, const Greeting& greeting, Clock::time_point deadline) {
  Socket link = Connect(launch, deadline);
  link.NoticeSilence();
  link.Send(&greeting, sizeof greeting);
  Greeting answer;
  const std::chrono::duration<double> left = deadline - Clock::now();
  link.WaitAtMost(std::max(1.0, left.count()));
  try {
    link.Receive(&answer, sizeof answer);
  } catch (const RankLost&) {
    throw Error(Concat("who listens at ", launch.host, ":", launch.port,
                       " does not answer as rank 0 of this run; is another "
                       "program there, or has rank 0 ended?"));
  }
  link.WaitAtMost(0);
  return link;
}

// Of rank 0 to every other rank, of these to rank 0.
std::vector<Socket> MeetAll(const Launch& launch, double patience_s) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(static_cast<std::int64_t>(1000 * patience_s));
  std::vector<Socket> links(static_cast<std::size_t>(launch.size));
  const Greeting greeting{.rank = launch.rank, .size = launch.size};
  if (launch.rank > 0) {
    links[0] = Join(launch, greeting, deadline);
    return links;
  }
  const Socket door = Listen(launch);
  for (int met = 1; met < launch.size;) {
    SWARR_CHECK(AwaitInput(door, deadline), "only ", met, " of ", launch.size, " ranks came to ", launch.host, ":",
                launch.port, " within ", patience_s, " s");
    Socket guest(accept4(door.descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
    const std::optional<Greeting> theirs = guest.open() ? GreetingOf(guest) : std::nullopt;
    if (!theirs) continue;
    SWARR_CHECK(theirs->size == launch.size && theirs->rank > 0 && theirs->rank < launch.size,
                "a rank says that it is ", theirs->rank, " of ", theirs->size, "; here are ", launch.size, " ranks");
    Socket& link = links[static_cast<std::size_t>(theirs->rank)];
    SWARR_CHECK(!link.open(), "two processes say that they are rank ", theirs->rank);
    guest.NoticeSilence();
    guest.Send(&greeting, sizeof greeting);
    link = std::move(guest);
    ++met;
  }
  return links;
}

// Adds the seconds of a scope.
class AddedTime {
 public:
  explicit AddedTime(double& sum) : sum_(sum) {}
  AddedTime(const AddedTime&) = delete;
  AddedTime& operator=(const AddedTime&) = delete;
  ~AddedTime() { sum_ += std::chrono::duration<double>(Clock::now() - begin_).count(); }

 private:
  double& sum_;
  Clock::time_point begin_ = Clock::now();
};

class ProcessCommunicator : public Communicator {
 public:
  ProcessCommunicator(const Launch& launch, const ProcessRanksOptions& options)
      : launch_(launch), links_(MeetAll(launch, options.patience_s)) {
    if (options.on_lost) watch_ = std::thread([this, on_lost = options.on_lost] { Watch(on_lost); });
  }
  ~ProcessCommunicator() override { EndWatch(); }

  int rank() const override { return launch_.rank; }
  int size() const override { return launch_.size; }

  std::vector<std::string> Gather(const std::string& own) override {
    const AddedTime timer(times_.gather);
    return GatherTexts(own);
  }

  Times TakeTimes() override {
    if (device_) times_.exchange += device_->TakeSeconds();
    return std::exchange(times_, {});
  }

  // Nobody hangs up before all have ended their watch.
  void End() override {
    EndWatch();
    Gather("");
  }

  void Exchange(const Context& ctx, std::span<const Tensor> send, std::span<const Tensor> receive) override {
    if (ctx.device() == Device::kCpu) return ExchangeOnHost(send, receive);
    if (!device_) device_ = MakeDeviceExchange(*this);
    device_->Exchange(ctx, send, receive);
  }

 private:
  void EndWatch() {
    ended_ = true;
    if (watch_.joinable()) watch_.join();
  }
  std::string LostSentence(std::size_t r) const {
    return Concat("rank ", r, " has ended or can't be reached, so rank ", rank(), " ends too; what rank ", r,
                  " wrote last may say why, and --resume auto goes on from the last checkpoint, if there is one");
  }

  std::vector<std::string> GatherTexts(const std::string& own) {
    std::vector<std::string> all(links_.size());
    all[static_cast<std::size_t>(rank())] = own;
    const auto with = [&](std::size_t r, const auto& talk) {
      try {
        talk(links_[r]);
      } catch (const RankLost&) {
        throw RankLost(LostSentence(r));
      }
    };
    const auto send_all = [&](const Socket& link) {
      for (const std::string& text : all) link.SendText(text);
    };
    if (rank() > 0) {
      with(0, [&](const Socket& link) {
        link.SendText(own);
        for (std::string& text : all) text = link.ReceiveText();
      });
      return all;
    }
    for (std::size_t r = 1; r < links_.size(); ++r) {
      with(r, [&](const Socket& link) { all[r] = link.ReceiveText(); });
    }
    for (std::size_t r = 1; r < links_.size(); ++r) with(r, send_all);
    return all;
  }

  // All get all that anybody sends, and take what is for them.
  void ExchangeOnHost(std::span<const Tensor> send, std::span<const Tensor> receive) {
    const AddedTime timer(times_.exchange);
    std::vector<std::uint64_t> sizes;
    std::string own;
    for (const Tensor& t : send) sizes.push_back(t.empty() ? 0 : t.bytes());
    own.assign(reinterpret_cast<const char*>(sizes.data()), sizes.size() * sizeof sizes[0]);
    for (std::size_t r = 0; r < send.size(); ++r) own.append(static_cast<const char*>(send[r].raw()), sizes[r]);
    const std::size_t head = sizes.size() * sizeof sizes[0];
    const std::vector<std::string> all = GatherTexts(own);
    for (std::size_t r = 0; r < all.size(); ++r) {
      if (static_cast<int>(r) == rank()) continue;
      const std::uint64_t expected = receive[r].empty() ? 0 : receive[r].bytes();
      SWARR_CHECK(all[r].size() >= head, "rank ", r, " does not exchange what rank ", rank(), " does");
      std::memcpy(sizes.data(), all[r].data(), head);
      std::uint64_t before = head;
      for (int to = 0; to < rank(); ++to) before += sizes[static_cast<std::size_t>(to)];
      const std::uint64_t bytes = sizes[static_cast<std::size_t>(rank())];
      SWARR_CHECK(bytes == expected && before <= all[r].size() && bytes <= all[r].size() - before, "rank ", r,
                  " sends ", bytes, " bytes where rank ", rank(), " expects ", expected);
      if (bytes > 0) std::memcpy(receive[r].raw(), all[r].data() + before, bytes);
    }
  }

  // Looks whether a link is hung up, which its reader alone would notice late, or never.
  void Watch(const std::function<void(const std::string&)>& on_lost) const {
    std::vector<pollfd> entries;
    std::vector<std::size_t> of;
    for (std::size_t r = 0; r < links_.size(); ++r) {
      if (!links_[r].open()) continue;
      entries.push_back({.fd = links_[r].descriptor(), .events = POLLRDHUP, .revents = 0});
      of.push_back(r);
    }
    constexpr int kLookEvery = 200;  // ms
    while (!ended_) {
      if (poll(entries.data(), entries.size(), kLookEvery) <= 0) continue;
      for (std::size_t i = 0; i < entries.size(); ++i) {
        if (entries[i].revents == 0 || ended_) continue;
        on_lost(LostSentence(of[i]));
        return;
      }
    }
  }

  Launch launch_;
  std::vector<Socket> links_;
  Times times_;
  std::unique_ptr<DeviceExchange> device_;
  std::atomic<bool> ended_ = false;
  std::thread watch_;
};

}  // namespace

std::unique_ptr<Communicator> MeetRanks(const Launch& launch, const ProcessRanksOptions& options) {
  return std::make_unique<ProcessCommunicator>(launch, options);
}

}  // namespace swarr
