"""Constants of rtnetlink(7), by their C names; apart from the others, because few containers need them.

tests/unit/test_constants.py compares them with the headers of the build machine.
"""

# linux/netlink.h
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_ROUTE = 0
NLMSGERR_ATTR_MSG = 1
NLMSG_DONE = 3
NLMSG_ERROR = 2
NLM_F_ACK = 0x4
NLM_F_ACK_TLVS = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
NLM_F_REPLACE = 0x100
NLM_F_REQUEST = 0x1

# linux/socket.h
SOL_NETLINK = 270

# linux/rtnetlink.h
RTM_GETADDR = 22
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_NEWLINK = 16
RT_SCOPE_UNIVERSE = 0

# linux/if_link.h, linux/if.h
IFF_UP = 0x1
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_INFO_KIND = 1
IFLA_LINKINFO = 18
IFLA_NET_NS_FD = 28
IFLA_PARENT_DEV_NAME = 56
IFLA_PERM_ADDRESS = 54

# linux/if_addr.h
IFA_ADDRESS = 1
IFA_BROADCAST = 4
IFA_CACHEINFO = 6
IFA_FLAGS = 8
IFA_F_DADFAILED = 0x08
IFA_F_DEPRECATED = 0x20
IFA_F_PERMANENT = 0x80
IFA_F_SECONDARY = 0x01
IFA_F_TENTATIVE = 0x40
IFA_LABEL = 3
IFA_LOCAL = 2
IFA_PROTO = 11
IFA_RT_PRIORITY = 9
