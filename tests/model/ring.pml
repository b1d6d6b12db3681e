/* One ring of a subscription, inline messages: the slots' words, the cells, every process's own cursors, and the hint
 * that leads to what is to be delivered again.
 *
 * 0, 1 publish M0 and M1 messages; 2, 3 receive; 4 (and 5 with REAPERS=2) repair and tick. N cells of {cycle, index},
 * S slots of {state, owner, gen} with a place. The compare-and-swap of the cell is the commit. OFFER stays as it is; the
 * shared cursors are raised or not, as it happens.
 *
 * NACKS, LEASES  how many deliveries are given back, or lose their lease
 * TTLS     how many messages are over while they wait: who takes one out (a repairer) leaves a tomb where others wait before it
 * NOTICK   nobody renews hints: enough unless a process is stopped
 * LONE     one receiver; THREADS: both are threads of one process, and named alike
 * BAD_...  NEWCLAIM a slot in NEW is claimable; PLACELATE the place is stored after OFFER; PLACEFIRST the receiver reads
 *          the place before the word; TAILFIRST the tail is taken before the cell is filled; NOGEN generations are not
 *          compared; NOCYCLE a cell's cycle is not compared by who fills it; SKIPLOST a receiver whose claim failed goes
 *          on to the next cell; LINKEDFREE who repairs an OFFER does not look at its cell; REQUEUE what is given back
 *          goes through NEW; HINTLATE the hint is cleared after the look; TOMBFREE what is over is freed at once; TOMBBLIND
 *          who makes a tomb does not look at the head; TOMBPASS who passes one that is half made does not look again;
 *          TOMBLINK what is over is taken out before it is linked.
 *          N=1 with S=2 is a fault too: a ring with fewer cells than slots
 */
#ifndef REAPERS
#define REAPERS 1
#endif
#define PROCS 6
#ifdef LONE
#define VICTIM(i) (i < 4 + REAPERS && i != 3)
#else
#define VICTIM(i) (i < 4 + REAPERS)
#endif
#include "common.pml"
#ifndef N
#define N 2
#endif
#ifndef S
#define S 2
#endif
#ifndef M0
#define M0 2
#endif
#ifndef M1
#define M1 1
#endif
#ifndef NACKS
#define NACKS 0
#endif
#ifndef LEASES
#define LEASES 0
#endif
#ifndef TTLS
#define TTLS 0
#endif
#ifdef THREADS
#define ME 2
#else
#define ME me
#endif
#define M (M0 + M1)
#define FREE 0
#define NEW 1
#define OFFER 2
#define READY 3
#define AGAIN 4
#define INFLIGHT 5
#define EXPIRING 6
#define TOMB 8
#define NOBODY 7
#define NOWHERE 255
#define CYCLE(t) ((t) / N + 1)

byte state[S], owner[S] = NOBODY, gen[S], place[S] = NOWHERE, content[S] = NOWHERE;
byte cycle[N], index[N];
byte head, tail;                        /* shared: at most the true ones */
bit hint;                               /* a slot may be in AGAIN */
byte nacks = NACKS, leases = LEASES, ttls = TTLS;
/* What an observer knows: */
bit returned[M]; bit settled[M]; bit over[M]; byte claims[M], requeues[M]; bit struck;

#ifdef BAD_NOGEN
#define IS(s, st, o, g) (state[s] == st && owner[s] == o)
#else
#define IS(s, st, o, g) (state[s] == st && owner[s] == o && gen[s] == g)
#endif
#ifdef BAD_NEWCLAIM
#define CLAIMABLE(st) (st == NEW || st == OFFER || st == READY)
#else
#define CLAIMABLE(st) (st == OFFER || st == READY)
#endif
#define MESSAGE (me == 0 -> k : M0 + k)

/* Position h is about to be passed, and led to slot s when that was x: a tomb goes; of one that is half made, whoever is the
 * later of the two, its maker and we, sees the other. */
#ifdef BAD_TOMBPASS
#define BURY(s, x, o, g, h) if :: x == TOMB -> STEP if :: IS(s, TOMB, o, g) -> state[s] = FREE :: else fi; END :: else fi
#else
#define BURY(s, x, o, g, h) if :: x == EXPIRING -> STEP if :: head < h + 1 -> head = h + 1 :: else fi; END \
	STEP x = state[s]; o = owner[s]; g = gen[s]; if :: place[s] != h -> x = FREE :: else fi; END :: else fi; \
	if :: x == TOMB -> STEP if :: IS(s, TOMB, o, g) -> state[s] = FREE :: else fi; END :: else fi
#endif

/* May or may not tell the others. */
#define RAISE(cursor, to) if :: skip :: STEP if :: cursor < to -> cursor = to :: else fi; END fi

proctype publisher(byte me) {
	byte k, s, g, t, v, i, p, st, seen, h, o, e; bit won;
	do
	:: WHEN(k < (me == 0 -> M0 : M1) && (state[0] == FREE || state[S - 1] == FREE))
		if :: state[0] == FREE -> s = 0 :: state[S - 1] == FREE -> s = S - 1 fi;
		state[s] = NEW; owner[s] = me; gen[s] = gen[s] + 1; g = gen[s]; content[s] = MESSAGE; END
link:
#ifdef BAD_TAILFIRST
	   STEP t = tail; tail = tail + 1; place[s] = t; END
	   STEP state[s] = OFFER; END
	   STEP cycle[t % N] = CYCLE(t); index[t % N] = s; END
#else
	   STEP v = cycle[t % N]; i = index[t % N]; END
	   if
#ifdef BAD_NOCYCLE
	   :: v >= CYCLE(t) && t < tail -> t++; goto link
#else
	   :: v >= CYCLE(t) ->
		t = (v - 1) * N + t % N + 1;
		if :: skip :: STEP if :: tail > t -> t = tail :: else fi; END fi;
		v = 0; i = 0;
		goto link
#endif
	   :: else
	   fi;
	   if
	   :: t - seen >= N ->                  /* help head on, or find that t was stale */
		STEP h = (head > seen -> head : seen); END
		do
		:: t - h >= N ->
			STEP st = cycle[h % N]; i = index[h % N]; END
			if
			:: st == CYCLE(h) ->
				STEP st = state[i]; o = owner[i]; e = gen[i]; END
				STEP p = place[i]; END
				if
				:: CLAIMABLE(st) && p == h ->
					STEP st = cycle[t % N]; END
					assert(st >= CYCLE(t));         /* else the ring is full although a slot was free */
					h = 0; v = 0; i = 0; p = 0; st = 0; o = 0; e = 0;
					goto link
				:: (st == TOMB || st == EXPIRING) && p == h -> BURY(i, st, o, e, h)
				:: else
				fi;
				o = 0; e = 0
			:: else -> assert(st > CYCLE(h))
			fi;
			h++
		:: else -> break
		od;
		seen = h; h = 0; p = 0; st = 0; i = 0;
		RAISE(head, seen);
		STEP i = index[t % N]; if :: v != cycle[t % N] -> i = S :: else fi; END
		if :: i == S -> i = 0; v = 0; goto link :: else fi
	   :: else
	   fi;
#ifndef BAD_PLACELATE
	   STEP place[s] = t; END
#endif
#ifndef BAD_NEWCLAIM
	   STEP state[s] = OFFER; END
#endif
#ifdef BAD_PLACELATE
	   STEP place[s] = t; END
#endif
	   STEP if
#ifdef BAD_NOCYCLE
		:: index[t % N] == i -> cycle[t % N] = CYCLE(t); index[t % N] = s; won = 1
#else
		:: cycle[t % N] == v && index[t % N] == i -> cycle[t % N] = CYCLE(t); index[t % N] = s; won = 1
#endif
		:: else -> won = 0
		fi; END
	   v = 0; i = 0;
	   if :: !won -> goto link :: else fi;
	   won = 0;
	   t++;
	   RAISE(tail, t);
#endif
	   STEP returned[MESSAGE] = 1; k++; s = 0; g = 0; END
	od;
	DEAD(k = 0; s = 0; g = 0; t = 0; v = 0; i = 0; p = 0; st = 0; seen = 0; h = 0; o = 0; e = 0; won = 0; struck = 1)
}

/* Claimed: once, and once more for each time that it was given back; one producer's in their order. */
#define CLAIMED(s) assert(content[s] != NOWHERE); m = content[s]; claims[m] = claims[m] + 1; \
	assert(claims[m] <= 1 + requeues[m] && !over[m]); \
	assert(struck || m == 0 || m == M0 || claims[m - 1] > 0 || over[m - 1])
#define CLAIM(s, x, o, g) STEP if :: IS(s, x, o, g) -> state[s] = INFLIGHT; owner[s] = ME; gen[s] = gen[s] + 1; g = gen[s]; \
	won = 1; CLAIMED(s) :: else -> won = 0 fi; END

#ifdef BAD_REQUEUE
#define GIVEBACK(s, o, g) STEP if :: IS(s, INFLIGHT, o, g) -> state[s] = NEW; owner[s] = me; gen[s] = gen[s] + 1; won = 1; \
	requeues[content[s]] = requeues[content[s]] + 1 :: else -> won = 0 fi; END \
	if :: won -> STEP if :: state[s] == NEW && owner[s] == me -> state[s] = AGAIN; owner[s] = NOBODY :: else -> won = 0 fi; END :: else fi; \
	if :: won -> STEP hint = 1; END :: else fi; won = 0
#else
#define GIVEBACK(s, o, g) STEP if :: IS(s, INFLIGHT, o, g) -> state[s] = AGAIN; owner[s] = NOBODY; gen[s] = gen[s] + 1; won = 1; \
	requeues[content[s]] = requeues[content[s]] + 1 :: else -> won = 0 fi; END \
	if :: won -> STEP hint = 1; END :: else fi; won = 0
#endif

proctype receiver(byte me) {
	byte h, s, g, x, o, p, m, v; bit won;
	do
	:: WHEN(hint)
#ifndef BAD_HINTLATE
		hint = 0;
#endif
		END
	   s = 0;
	   do
	   :: s < S ->
		STEP x = state[s]; g = gen[s]; END
		if
		:: x == AGAIN ->
			CLAIM(s, AGAIN, NOBODY, g)
			if
			:: won -> STEP hint = 1; END     /* there may be more */
				goto settle
			:: else
			fi
		:: else
		fi;
		s++
	   :: else -> break
	   od;
#ifdef BAD_HINTLATE
	   STEP hint = 0; END
#endif
	   s = 0; g = 0; x = 0
	:: WHEN(cycle[h % N] >= CYCLE(h)) v = cycle[h % N]; s = index[h % N]; END
	   if
	   :: v > CYCLE(h) ->                   /* a lap later: all before that lap's position is done with */
		h = (v - 1) * N + h % N - N + 1;
		STEP if :: head > h -> h = head :: else fi; END
		v = 0; s = 0
	   :: else ->
		v = 0;
#ifdef BAD_PLACEFIRST
		STEP p = place[s]; END
		STEP x = state[s]; o = owner[s]; g = gen[s]; END
#else
		STEP x = state[s]; o = owner[s]; g = gen[s]; END
		STEP p = place[s]; END
#endif
		if
		:: CLAIMABLE(x) && p == h ->
			p = 0;
			CLAIM(s, x, o, g)
			x = 0; o = 0;
			if
			:: won -> h++;
				RAISE(head, h);
				goto settle
			:: else ->                      /* another has it, or a reaper made it READY: look again */
#ifdef BAD_SKIPLOST
				h++
#endif
			fi
		:: else ->
			if :: (x == TOMB || x == EXPIRING) && p == h -> BURY(s, x, o, g, h) :: else fi;
			h++;
			if :: skip :: STEP if :: head > h -> h = head :: else fi; END fi;
			RAISE(head, h)
		fi;
		x = 0; o = 0; g = 0; s = 0; p = 0
	   fi;
	   goto next;
settle:	   won = 0; x = 0;
	   STEP assert(!IS(s, INFLIGHT, ME, g) || content[s] == m); END
	   if
	   :: STEP if :: IS(s, INFLIGHT, ME, g) -> state[s] = FREE; owner[s] = NOBODY; assert(!settled[m]); settled[m] = 1 :: else fi; END
	   :: WHEN(nacks > 0) nacks--; END
		GIVEBACK(s, ME, g)
	   fi;
	   s = 0; g = 0; m = 0;
next:	   skip
	od;
	DEAD(h = 0; s = 0; g = 0; x = 0; o = 0; p = 0; m = 0; v = 0; won = 0; struck = 1)
}

/* EXPIRING to TOMB; FREE if head has passed it. */
#ifdef BAD_TOMBFREE
#define ENTOMB(s, g) STEP if :: IS(s, EXPIRING, me, g) -> state[s] = FREE; owner[s] = NOBODY :: else fi; END
#else
#ifdef BAD_TOMBBLIND
#define ENTOMB(s, g) STEP if :: IS(s, EXPIRING, me, g) -> state[s] = TOMB; owner[s] = NOBODY :: else fi; END
#else
#define ENTOMB(s, g) STEP p = place[s]; if :: IS(s, EXPIRING, me, g) -> state[s] = TOMB; owner[s] = NOBODY; won = 1 :: else fi; END \
	if :: won -> won = 0; STEP leads = head > p; END \
		if :: leads -> STEP if :: IS(s, TOMB, NOBODY, g) -> state[s] = FREE :: else fi; END :: else fi \
	:: else fi; leads = 0; p = 0
#endif
#endif
#define EXPIRE(s, x, o, g) STEP if :: IS(s, x, o, g) -> state[s] = EXPIRING; owner[s] = me; gen[s] = gen[s] + 1; g = gen[s]; won = 1; \
	over[content[s]] = 1 :: else fi; END \
	if :: won -> won = 0; ENTOMB(s, g) :: else fi

#define UNSWEPT !(swept[0] && swept[1] && swept[2] && swept[3] && swept[4] && swept[5])
proctype reaper(byte me) {
	byte d, s, x, g, o, p; bit won, leads;
	do
	:: WHEN(leases > 0 && (state[0] == INFLIGHT || state[S - 1] == INFLIGHT)) leases--;
		if :: state[0] == INFLIGHT -> s = 0 :: state[S - 1] == INFLIGHT -> s = S - 1 fi;
		g = gen[s]; o = owner[s]; END
	   GIVEBACK(s, o, g);
	   s = 0; g = 0; o = 0
	:: WHEN(ttls > 0 && (CLAIMABLE(state[0]) || CLAIMABLE(state[S - 1]))) ttls--;
		if :: CLAIMABLE(state[0]) -> s = 0 :: CLAIMABLE(state[S - 1]) -> s = S - 1 fi;
		x = state[s]; g = gen[s]; o = owner[s]; END
	   leads = 1;
#ifndef BAD_TOMBLINK
	   if
	   :: x == OFFER ->
		STEP p = place[s]; END
		STEP leads = (p != NOWHERE && cycle[p % N] == CYCLE(p) && index[p % N] == s); END
	   :: else
	   fi;
#endif
	   p = 0;
	   if :: leads -> leads = 0; EXPIRE(s, x, o, g) :: else fi;
	   s = 0; x = 0; g = 0; o = 0
	:: WHEN(UNSWEPT)
		if :: !swept[0] -> d = 0 :: !swept[1] -> d = 1 :: !swept[2] -> d = 2 :: !swept[3] -> d = 3 :: !swept[4] -> d = 4
		   :: !swept[5] -> d = 5 fi; s = 0; END
	   do
	   :: s < S ->
		STEP x = state[s]; g = gen[s]; o = owner[s]; END
		if
		:: o == d && x == NEW -> STEP if :: IS(s, NEW, d, g) -> state[s] = FREE; owner[s] = NOBODY :: else fi; END
		:: o == d && x == OFFER ->
			STEP p = place[s]; END
#ifdef BAD_LINKEDFREE
			leads = 0;
#else
			STEP leads = (cycle[p % N] == CYCLE(p) && index[p % N] == s); END
#endif
			STEP if :: IS(s, OFFER, d, g) -> state[s] = (leads -> READY : FREE); owner[s] = NOBODY :: else fi; END
			leads = 0; p = 0
		:: o == d && x == INFLIGHT -> GIVEBACK(s, d, g)
		:: o == d && x == EXPIRING -> EXPIRE(s, x, d, g)
		:: else
		fi;
		s++
	   :: else -> break
	   od;
	   STEP swept[d] = 1; d = 0; s = 0; x = 0; g = 0; o = 0; END
#ifndef NOTICK
	:: WHEN((state[0] == TOMB && head > place[0]) || (state[S - 1] == TOMB && head > place[S - 1]))
		if :: state[0] == TOMB && head > place[0] -> state[0] = FREE :: else -> state[S - 1] = FREE fi; END
	:: WHEN(!hint && (state[0] == AGAIN || state[S - 1] == AGAIN)) hint = 1; END
#endif
	od;
	DEAD(d = 0; s = 0; x = 0; g = 0; o = 0; p = 0; won = 0; leads = 0; struck = 1)
}

#ifdef LONE
#define RECEIVES go[2]
#else
#define RECEIVES (go[2] || go[3])
#endif
#define WORKING (RECEIVES && (go[4] || (REAPERS > 1 && go[5])))
#define STUCK(s) (owner[s] != NOBODY && alive[owner[s]] && !go[owner[s]])   /* in a stopped process's hands */
active proctype monitor() {
	byte s, m; bit held;
	timeout;
	atomic {
		do
		:: m < M ->
			held = 0; s = 0;
			do
			:: s < S -> if :: content[s] == m && STUCK(s) -> held = 1 :: else fi; s++
			:: else -> break
			od;
			/* what was published is settled, unless nobody is there to do it or its receiver was stopped */
			assert(!returned[m] || settled[m] || over[m] || held || !WORKING);
			m++
		:: else -> break
		od;
		s = 0;
		do
		:: s < S -> assert(state[s] == FREE || STUCK(s) || !WORKING); s++
		:: else -> break
		od;
		/* a stopped process stops nobody: there was a slot left for the others */
		assert(!WORKING || STOPS >= S || ((!go[0] || returned[M0 - 1]) && (!go[1] || M1 == 0 || returned[M - 1])))
	}
}

init { atomic {
	run publisher(0); run publisher(1); run receiver(2); run reaper(4);
#ifndef LONE
	run receiver(3);
#endif
#if REAPERS > 1
	run reaper(5);
#endif
} }
