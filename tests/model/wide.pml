/* More receivers than the block's word has bits: words of bits behind the payload, dealt to the bits of the block.
 *
 * 0 publishes MESSAGES, one after the other, into the one block; 1 and 2 receive for any of the four receivers; 3 (and 4
 * with REAPERS=2) repair. WORDS words of BITS bits, word w belongs to bit w % HOLDERS of the block; receiver r has bit
 * r % BITS of word r / BITS. All are tagged with the block's gen. SHIFT: message k goes to the receivers from k on, so
 * that a receiver's bit changes from message to message.
 *
 * BAD_...  OWNONLY who finds its own bit cleared looks no further; NOGEN the block's gen is not compared; NOWORDGEN nor
 *          is that of the word; BLOCKFIRST the block's bit falls before the own; ONEWORD only the own word is looked at;
 *          BLINDFREE who repairs does not take the slot over; NOROLL who repairs BOUND always frees it
 */
#ifndef REAPERS
#define REAPERS 1
#endif
#define PROCS 5
#define VICTIM(i) (i < 3 + REAPERS)
#include "common.pml"
#ifndef WORDS
#define WORDS 2
#endif
#ifndef BITS
#define BITS 2
#endif
#define HOLDERS 2
#define RECEIVERS (WORDS * BITS)
#ifndef MESSAGES
#define MESSAGES 2
#endif
#define FREE 0
#define NEW 1
#define BOUND 2
#define READY 3
#define INFLIGHT 4
#define FREEING 5
#define LIVE 2
#define NOBODY 7

byte bstate, bowner = NOBODY, bgen, holders;
byte wgen[WORDS], bits[WORDS];
byte state[RECEIVERS], owner[RECEIVERS] = NOBODY, gen[RECEIVERS], refgen[RECEIVERS], refbit[RECEIVERS];
bit returned[MESSAGES];

#define IS(r, st, o, g) (state[r] == st && owner[r] == o && gen[r] == g)
#define SET(r, st, o, g) state[r] = st; owner[r] = o; gen[r] = g
#define WORD(r) (refbit[r] / BITS)
#define BIT(r) (1 << (refbit[r] % BITS))
#ifdef SHIFT
#define FROM k
#else
#define FROM 0
#endif
#ifdef BAD_NOGEN
#define SAMELIFE(g) (bstate == LIVE)
#else
#define SAMELIFE(g) (bstate == LIVE && bgen == g)
#endif
#ifdef BAD_NOWORDGEN
#define SAMEWORD(w, g) true
#else
#define SAMEWORD(w, g) (wgen[w] == g)
#endif
#define HELD(r) (bstate == LIVE && bgen == refgen[r] && (holders & (1 << (WORD(r) % HOLDERS))) && \
	wgen[WORD(r)] == refgen[r] && (bits[WORD(r)] & BIT(r)))

#define CLEARHOLDER(r, b) if :: SAMELIFE(b) && (holders & (1 << (WORD(r) % HOLDERS))) -> \
	holders = holders & ~(1 << (WORD(r) % HOLDERS)); if :: holders == 0 -> bstate = FREE :: else fi :: else fi

/* Once, or again by who repairs. b: the block's gen, as the slot says it. */
inline release(r) {
	STEP ok = SAMELIFE(b); END
	if
	:: ok ->
#ifdef BAD_BLOCKFIRST
		STEP CLEARHOLDER(r, b); END
		STEP if :: SAMEWORD(WORD(r), b) -> bits[WORD(r)] = bits[WORD(r)] & ~BIT(r) :: else fi; END
#else
		STEP if :: SAMEWORD(WORD(r), b) && (bits[WORD(r)] & BIT(r)) -> bits[WORD(r)] = bits[WORD(r)] & ~BIT(r); ok = 1
			:: else -> ok = 0 fi; END
#ifndef BAD_OWNONLY
		ok = 1;
#endif
		w = WORD(r) % HOLDERS;
		do
		:: ok && w < WORDS ->
#ifdef BAD_ONEWORD
			STEP if :: w == WORD(r) -> ok = (bits[w] == 0 && SAMEWORD(w, b)) :: else fi; END
#else
			STEP ok = (bits[w] == 0 && SAMEWORD(w, b)); END
#endif
			w = w + HOLDERS
		:: else -> break
		od;
		w = 0;
		if :: ok -> STEP CLEARHOLDER(r, b); END :: else fi
#endif
	:: else
	fi;
	ok = 0
}

proctype publisher(byte me) {
	byte k, r, b, w;
	do
	:: k < MESSAGES ->
		WHEN(bstate == FREE) bstate = NEW; bowner = me; bgen++; b = bgen; END
		r = FROM;
		do
		:: r < RECEIVERS ->
			WHEN(state[r] == FREE) SET(r, NEW, me, gen[r] + 1); refgen[r] = b; refbit[r] = r - FROM; END
			r++
		:: else -> break
		od;
		r = FROM;
		STEP do
		:: r < RECEIVERS -> assert(state[r] == NEW); state[r] = BOUND; r++
		:: else -> break
		od; END
		do
		:: w < WORDS -> STEP wgen[w] = b; bits[w] = (1 << BITS) - 1;
			if :: (w + 1) * BITS > RECEIVERS - FROM -> bits[w] = (1 << (RECEIVERS - FROM - w * BITS)) - 1 :: else fi; END
			w++
		:: else -> break
		od;
		w = 0; r = FROM;
		STEP bstate = LIVE; bowner = NOBODY; holders = (1 << HOLDERS) - 1; END
		do
		:: r < RECEIVERS -> STEP SET(r, READY, NOBODY, gen[r]); END
			r++
		:: else -> break
		od;
		STEP returned[k] = 1; k++; r = 0; b = 0; END
	:: else -> break
	od;
	DEAD(k = 0; r = 0; b = 0; w = 0)
}

proctype receiver(byte me) {
	byte r, g, b, w; bit ok;
	do
	:: WHEN(state[0] == READY || state[1] == READY || state[2] == READY || state[3] == READY)
		if :: state[0] == READY -> r = 0 :: state[1] == READY -> r = 1 :: state[2] == READY -> r = 2 :: state[3] == READY -> r = 3 fi;
		SET(r, INFLIGHT, me, gen[r] + 1); g = gen[r]; b = refgen[r];
		assert(HELD(r)); END
	   STEP assert(HELD(r)); state[r] = FREEING; END
	   release(r);
	   STEP SET(r, FREE, NOBODY, g); g = 0; b = 0; r = 0; END
	od;
	DEAD(r = 0; g = 0; b = 0; w = 0; ok = 0)
}

#define UNSWEPT !(swept[0] && swept[1] && swept[2] && swept[3] && swept[4])
proctype reaper(byte me) {
	byte d, r, x, o, g, b, w; bit ok;
	do
	:: WHEN(UNSWEPT)
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 :: !swept[4] -> d = 4 fi; END
	   do
	   :: r < RECEIVERS ->
		STEP x = state[r]; o = owner[r]; g = gen[r]; b = refgen[r]; END
		if
		:: o == d && x == NEW -> STEP if :: IS(r, NEW, d, g) -> SET(r, FREE, NOBODY, g) :: else fi; END
		:: o == d && x == BOUND ->
			STEP ok = SAMELIFE(b); END
#ifdef BAD_NOROLL
			ok = 0;
#endif
			if :: ok -> STEP ok = (SAMEWORD(WORD(r), b) && (bits[WORD(r)] & BIT(r))); END :: else fi;
			STEP if :: IS(r, BOUND, d, g) -> if :: ok -> SET(r, READY, NOBODY, g + 1) :: else -> SET(r, FREE, NOBODY, g) fi :: else fi; END
			ok = 0
		:: o == d && x == INFLIGHT -> STEP if :: IS(r, INFLIGHT, d, g) -> SET(r, READY, NOBODY, g + 1) :: else fi; END
		:: o == d && x == FREEING ->
#ifdef BAD_BLINDFREE
			STEP b = refgen[r]; END
			release(r);
			STEP if :: IS(r, FREEING, d, g) -> SET(r, FREE, NOBODY, g) :: else fi; END
#else
			STEP if :: IS(r, FREEING, d, g) -> SET(r, FREEING, me, g + 1); ok = 1 :: else -> ok = 0 fi; END
			if
			:: ok -> STEP b = refgen[r]; END
				release(r);
				STEP SET(r, FREE, NOBODY, g + 1); END
			:: else
			fi
#endif
		:: else
		fi;
		x = 0; o = 0; g = 0; b = 0; ok = 0; r++
	   :: else -> break
	   od;
	   STEP if :: bstate == NEW && bowner == d -> bstate = FREE; bowner = NOBODY :: else fi; swept[d] = 1; d = 0; r = 0; END
	od;
	DEAD(d = 0; r = 0; x = 0; o = 0; g = 0; b = 0; w = 0; ok = 0)
}

#define REPAIRED (go[3] || (REAPERS > 1 && go[4]))
active proctype monitor() {
	byte r; bit held;
	timeout;
	atomic {
		do
		:: r < RECEIVERS ->
			assert(!REPAIRED || STOPS > 0 || state[r] == FREE || (state[r] == READY && HELD(r)) || owner[r] == 0);
			if :: state[r] != FREE -> held = 1 :: else fi;
			r++
		:: else -> break
		od;
		/* no leak: a block that nobody refers to is free; and no end too early: see HELD */
		assert(!REPAIRED || STOPS > 0 || held || bstate == FREE);
		assert(!(go[0] && (go[1] || go[2]) && REPAIRED) || STOPS > 0 || returned[MESSAGES - 1])
	}
}

init { atomic {
	run publisher(0); run receiver(1); run receiver(2); run reaper(3);
#if REAPERS > 1
	run reaper(4);
#endif
} }
