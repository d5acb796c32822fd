/* An auditor of the dynamic loader (man 7 rtld-audit) that makes a process believe that its CPU has no AVX-512, VNNI
 * and AMX: LD_AUDIT=this, EDGE_BENCH_MASK=TABLE.
 *
 * Libraries ask the CPU with the instruction cpuid, which no process can intercept here (arch_prctl ARCH_CPUID_OFF
 * works on few CPUs). So each cpuid of a library is replaced by ud2, as long, when the library has been mapped and
 * before any of its code runs; the signal that ud2 raises is answered with what cpuid says, less some bits.
 *
 * TABLE is made by mask.py; a line for each instruction: device, inode and offset of a library's file in decimal.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

enum { MOST_PLACES = 16384, MOST_SEGMENTS = 64, PAGE = 4096 };

typedef struct {
    unsigned long long device, inode, offset;
} Place;

static Place places[MOST_PLACES];
static int place_count = -1;
static const unsigned char *patched[MOST_PLACES];
static int patched_count;

static const unsigned char cpuid[2] = {0x0f, 0xa2}, ud2[2] = {0x0f, 0x0b};

/* Bits of leaf 7 (AMD64 manual volume 3, appendix E; Intel's volume 2A, CPUID). */
#define BIT(n) (1u << (n))
static const uint32_t LEAF7_EBX = BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31); /* AVX512 F .. VL */
static const uint32_t LEAF7_ECX = BIT(1) | BIT(6) | BIT(8) | BIT(11) | BIT(12) | BIT(14); /* VBMI .. GFNI, VNNI, VPOPCNTDQ */
static const uint32_t LEAF7_EDX = BIT(2) | BIT(3) | BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25); /* AVX512 ... FP16, AMX */
static const uint32_t LEAF7_1_EAX = BIT(4) | BIT(5) | BIT(21) | BIT(23);          /* AVX-VNNI, BF16, AMX-FP16, IFMA */
static const uint32_t LEAF7_1_EDX = BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19); /* VNNI-INT8 .. INT16, AVX10 */
enum { LEAF_FEATURES = 7, LEAF_AMX_PALETTES = 0x1d, LEAF_AMX_UNIT = 0x1e, LEAF_AVX10 = 0x24 };

static void answer(greg_t *registers) {
    uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
    uint32_t a = leaf, b, c = subleaf, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (leaf == LEAF_FEATURES && subleaf == 0) {
        b &= ~LEAF7_EBX;
        c &= ~LEAF7_ECX;
        d &= ~LEAF7_EDX;
    } else if (leaf == LEAF_FEATURES && subleaf == 1) {
        a &= ~LEAF7_1_EAX;
        d &= ~LEAF7_1_EDX;
    } else if (leaf == LEAF_AMX_PALETTES || leaf == LEAF_AMX_UNIT || leaf == LEAF_AVX10) {
        a = b = c = d = 0;
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += (greg_t)sizeof ud2;
}

static void on_illegal(int number, siginfo_t *about, void *context) {
    (void)about;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    for (int i = 0; i < patched_count; i++) {
        if ((uintptr_t)patched[i] == (uintptr_t)registers[REG_RIP]) {
            answer(registers);
            return;
        }
    }
    signal(number, SIG_DFL); /* a fault of its own: it comes again, and ends the process */
}

static void give_up(const char *what, const char *name) {
    fprintf(stderr, "mask of the CPU: %s: %s\n", name, what);
    _exit(70);
}

static void read_table(void) {
    const char *path = getenv("EDGE_BENCH_MASK");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file)
        give_up("cannot be read", path ? path : "EDGE_BENCH_MASK");
    place_count = 0;
    Place at;
    while (fscanf(file, "%llu %llu %llu", &at.device, &at.inode, &at.offset) == 3) {
        if (place_count == MOST_PLACES)
            give_up("has too many lines", path);
        places[place_count++] = at;
    }
    fclose(file);
}

/* Where a byte of the file lies in memory. */
static unsigned char *mapped(const struct link_map *map, const ElfW(Phdr) *segments, int count, uint64_t offset) {
    for (int i = 0; i < count; i++) {
        const ElfW(Phdr) *segment = &segments[i];
        if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) && offset >= segment->p_offset &&
            offset + sizeof cpuid <= segment->p_offset + segment->p_filesz)
            return (unsigned char *)(map->l_addr + segment->p_vaddr + (offset - segment->p_offset));
    }
    return NULL;
}

static void replace(unsigned char *at, const char *name) {
    if (!at || memcmp(at, cpuid, sizeof cpuid) != 0)
        give_up("is not the file that was looked through", name);
    if (patched_count == MOST_PLACES)
        give_up("too many places", name);
    unsigned char *page = (unsigned char *)((uintptr_t)at & ~(uintptr_t)(PAGE - 1));
    size_t length = (size_t)(at + sizeof cpuid - page);
    if (mprotect(page, length, PROT_READ | PROT_WRITE | PROT_EXEC) != 0)
        give_up("its code cannot be changed", name);
    memcpy(at, ud2, sizeof ud2);
    mprotect(page, length, PROT_READ | PROT_EXEC);
    patched[patched_count++] = at;
}

unsigned int la_version(unsigned int version) {
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
    return version;
}

unsigned int la_objopen(struct link_map *map, Lmid_t namespace, uintptr_t *cookie) {
    (void)namespace;
    (void)cookie;
    if (place_count < 0)
        read_table();
    struct stat status;
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[MOST_SEGMENTS];
    int count = 0;
    if (!map->l_name[0] || stat(map->l_name, &status) != 0)
        return 0;
    for (int i = 0; i < place_count; i++) {
        if (places[i].inode != status.st_ino || places[i].device != status.st_dev)
            continue;
        if (!count) { /* the first place of this file */
            int file = open(map->l_name, O_RDONLY | O_CLOEXEC);
            if (file < 0 || pread(file, &header, sizeof header, 0) != sizeof header || header.e_phnum > MOST_SEGMENTS ||
                pread(file, segments, header.e_phnum * sizeof *segments, (off_t)header.e_phoff) < 0)
                give_up("its headers cannot be read", map->l_name);
            close(file);
            count = header.e_phnum;
        }
        replace(mapped(map, segments, count, places[i].offset), map->l_name);
    }
    return 0;
}
